"""Diffusers folders: translation to our names and configurations, and back."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
