"""Faster arithmetic for the modules that are there, given to a model for a while and taken back."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
