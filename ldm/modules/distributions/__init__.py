"""The posterior of the first stage."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
