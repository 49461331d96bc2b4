"""Faces in pictures: found, turned upright, redrawn by a network for faces, put back."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
