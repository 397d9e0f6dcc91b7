"""The pack inside Stable-Diffusion-WebUI (A1111, Forge and their relatives).

`host` alone imports the program's own modules; `scripts/codeformer.py` registers what is here.
"""
