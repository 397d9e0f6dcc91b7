"""What happens to images: detect, select, crop, restore, colorize, inpaint, composite."""
