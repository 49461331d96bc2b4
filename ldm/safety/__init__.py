"""The safety checker and the invisible watermark."""
