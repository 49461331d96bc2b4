"""ControlNet's own addresses: thin views of ``ldm``, so that its scripts and YAMLs run."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
