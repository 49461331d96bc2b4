"""From a command line to an exit code: what programs read, show and write."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
