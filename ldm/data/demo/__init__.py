"""The pictures that the bundled model learned from: captioned scenes of emoji."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
