"""The starter detector: our own small network for faces and their five landmarks."""
