"""Metadata of image files, as the bytes that came with the pixels."""
