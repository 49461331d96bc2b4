"""Masks of pictures: by words, by colour, of what stands before the background."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
