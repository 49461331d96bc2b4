"""Ways to save that change the picture: put on a model from outside, and taken off again."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
