"""Prompts as artists write them: their grammar, and how its parts are encoded."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
