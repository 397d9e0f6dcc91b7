"""Training: from photos to a file that the nodes load. See docs/training.md."""
