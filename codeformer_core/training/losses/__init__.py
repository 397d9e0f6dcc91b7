"""The training's losses: codes.py, perceptual.py, adversarial.py. Formulae: the CodeFormer and VQGAN papers."""
