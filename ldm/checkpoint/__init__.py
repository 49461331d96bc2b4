"""Weights on disk: reading them safely, fitting them to models, writing them whole."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
