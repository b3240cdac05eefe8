"""Classifiers: what the synthetic images are for, one file each."""
