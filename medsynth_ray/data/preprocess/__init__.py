"""One file for each step that changes real images before they are resized."""
