"""Neural network modules that models are made of."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
