"""Metrics of restored faces: one file per family."""
