"""Published weights: where they are, how they are fetched, where the hub's cache keeps them."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
