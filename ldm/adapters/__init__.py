"""What people load on top of a model: attached from outside, and let go of without a trace."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
