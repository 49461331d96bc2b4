"""Release the memory of file-mapped tensors."""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys

from torch import Tensor


@functools.cache
def _madvise():
    return ctypes.CDLL(None).madvise


def release_pages(tensor: Tensor) -> None:
    """Release the memory of a file-mapped tensor whose values have been copied elsewhere.

    Keeps the peak near the size of the copy while a large file is converted. The values are not
    lost: the pages are the file's, and are read again on access. Does nothing outside Linux.

    Args:
        tensor: Contiguous and memory-mapped from a file, never written to. (The contents of
            ordinary memory would be lost.)
    """
    if not sys.platform.startswith("linux"):
        return
    start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > start:
        length = ctypes.c_size_t(end - start)
        _madvise()(ctypes.c_void_p(start), length, mmap.MADV_DONTNEED)
