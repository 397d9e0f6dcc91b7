"""DFDNet: its published files and the dictionaries of face components."""
