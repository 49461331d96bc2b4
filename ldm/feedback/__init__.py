"""Feedback: what people think of pictures, kept and handed on to training."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
