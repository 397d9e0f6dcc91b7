"""The pipeline in single steps: detect, crop, paste. What a graph joins with its own nodes in between."""
