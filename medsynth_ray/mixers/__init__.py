"""Mixers: join real and synthetic images, one file each."""
