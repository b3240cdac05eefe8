"""Generators of synthetic images, one file per method."""
