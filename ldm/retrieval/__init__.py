"""Drawing with neighbours: a database of embedded pictures and the search in it."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
