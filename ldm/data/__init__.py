"""Data sets that configurations name, and what they read with."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
