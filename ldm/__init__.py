"""Latent diffusion: models, samplers and the programs that use them."""
