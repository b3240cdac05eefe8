"""Gates: quality and privacy checks that drop images or reject a pool, one file each."""
