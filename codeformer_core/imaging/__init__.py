"""Images as tensors, as arrays and as files."""
