"""Samplers: which real images a generator is shown, one file each."""
