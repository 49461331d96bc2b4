"""The same pictures in less memory: strips and blended patches."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
