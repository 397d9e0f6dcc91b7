"""Make the painters that come with the pack: `python -m tools.train_painter --help`."""
