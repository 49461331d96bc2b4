"""Training of what people load on top of a model; the model itself stays as it is."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
