"""Training: from photos to a file that the nodes load. See docs/training.md. Importing this brings no torch."""

# What a run leaves in its folder, and what commands take when they are given that folder.
WEIGHTS_NAME = "model.safetensors"
