"""From settings to pictures: prints nothing and writes nothing."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
