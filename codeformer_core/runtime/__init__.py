"""What every part may use: memory, progress, whole files, optional packages. Imports nothing of the rest."""
