"""What CodeFormer does with faces besides restoring them: colorizing and inpainting."""
