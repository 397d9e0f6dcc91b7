"""What restored faces are judged by: one file per family of metrics."""
