"""Restorers: what a network is, how it is recognised, built, run and saved."""
