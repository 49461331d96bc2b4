"""Conditioners: texts, classes and pictures to what the UNet attends to."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
