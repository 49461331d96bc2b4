"""Sweeps: one picture for each combination of settings, on a sheet with labels."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
