"""Networks that make pictures larger: ESRGAN, SwinIR, HAT, DAT and others, by spandrel."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
