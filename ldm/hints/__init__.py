"""Hints: what a picture's edges, depth or regions are, as pictures that a ControlNet reads."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
