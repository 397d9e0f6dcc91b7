"""Archives of any size: restored on one machine or a Ray cluster, continued after any failure."""
