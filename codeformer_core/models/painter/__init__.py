"""The painter."""
