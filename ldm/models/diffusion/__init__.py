"""Latent diffusion: the model, its training objective, and the samplers."""
