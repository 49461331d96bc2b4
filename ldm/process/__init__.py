"""The mathematics of diffusion: tensors in, tensors out."""
