"""The models that configurations build: first stages and diffusion models."""
