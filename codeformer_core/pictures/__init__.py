"""How picture files are decoded and encoded; `codeformer_core.files` is the door to it."""
