"""From photos to aligned training faces: cutting out, filters, and the lists that say what became of each face."""
