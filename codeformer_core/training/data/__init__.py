"""Aligned faces from folders and shards, in an order that depends on the seed and the step alone."""
