"""What travels beside the pixels of a picture file, as the bytes that it came in."""
