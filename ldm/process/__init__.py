"""The mathematics of diffusion: tensors in, tensors out."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
