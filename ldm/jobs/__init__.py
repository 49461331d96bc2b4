"""Many pictures from a file of jobs, by any number of workers: the same pictures as one by one."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
