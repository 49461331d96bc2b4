"""Picture files: reading, writing, padding, grids, and the settings stored inside."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
