"""The gallery: the pictures in output folders, found by words, and a bin for those not wanted."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
