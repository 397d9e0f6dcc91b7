"""How image files are decoded and encoded; `codeformer_core.imaging.files` is the door to it."""
