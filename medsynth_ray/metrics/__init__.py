"""Metrics: numbers that compare two sets of features, one file each; they decide nothing."""
