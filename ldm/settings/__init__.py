"""What can be chosen, and how each setting looks to a user. Imports no torch."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
