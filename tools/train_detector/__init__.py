"""Training of the starter detector: scenes composed of aligned faces, and a small network that finds them."""
