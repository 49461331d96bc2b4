"""Low memory: a plan that says which stage of a model is on the device, and when."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
