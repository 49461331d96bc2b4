"""The UNet and the VAE."""
