"""What travels beside the pixels of an image file, as the bytes that it came in."""
