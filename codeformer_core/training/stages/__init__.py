"""The three stages: autoencoder.py, codes.py, fusion.py; each says what is computed from a batch and what it costs."""
