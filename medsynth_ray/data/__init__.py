"""Adapters (one file per layout), audit, split and the frozen data set."""
