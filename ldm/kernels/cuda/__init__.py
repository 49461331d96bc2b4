"""Kernels for CUDA devices, in Triton. Imported where such a device is used, and nowhere else."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
