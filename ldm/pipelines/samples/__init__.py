"""Samples of a model in numbers, for looking at it and for measuring it: sample_diffusion.py."""
