"""Kernels for CUDA devices, in Triton. Imported where such a device is used, and nowhere else."""
