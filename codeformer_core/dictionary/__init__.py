"""Custom dictionaries for DFDNet: the atoms are the usual looks of eyes, noses and mouths in given faces.

Step by step: `faces` reads aligned faces, `extractor` makes features of their parts, `spool` keeps these on the disk,
`clusters` finds K atoms among them, `sheet` shows which faces they are nearest to. `build` is all of it and can be
interrupted; `renew_dictionary` puts the result into a loaded restorer.

Importing any of it needs no scikit-learn; `clusters` does when it runs.
"""
