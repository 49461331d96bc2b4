"""Latent diffusion: models, samplers and the programs that use them."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
