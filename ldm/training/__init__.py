"""Training any model of the package with Lightning."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
