"""What gives jobs to workers: processes of this machine, torchrun, or a Ray cluster."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
