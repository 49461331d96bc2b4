"""The safety checker and the invisible watermark."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
