"""The models that configurations build: first stages and diffusion models."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
