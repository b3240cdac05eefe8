"""Feature spaces: fixed maps from images to features, one file each."""
