"""Shared by all packages: memory, progress, whole files, optional packages. Imports nothing of the rest."""
