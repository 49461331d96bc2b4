"""Faster arithmetic on a processor for the modules that are there: `prepare`, then `release`."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
