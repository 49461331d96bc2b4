"""Memory pages: keep those that are used again, return those of a file that are not.

A tensor of 32 MiB and more is new memory from the system at each operation, whose pages it has to
hand out one by one: at 512x512 pixels that takes longer than the operation itself.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from ldm.checkpoint.mapped import release_pages

logger = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT = 2**30
"""Bytes of a block that stays with the process when it is freed, and of free memory as well."""
USUAL = 2**25
"""What glibc itself comes to in a process that frees large blocks."""
_FROM_FILE = 1 << 61  # of a page's entry in /proc/self/pagemap: it is no private memory
_IN_MEMORY = 1 << 63
_ENTRY = 8  # bytes


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return library if hasattr(library, "gnu_get_libc_version") else None


@contextmanager
def kept_pages() -> Iterator[None]:
    """Keep freed memory for the next operation inside the block, then return it to the system.

    Results are the same to the bit. Does nothing without glibc.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(M_MMAP_THRESHOLD, KEPT)
    library.mallopt(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        library.mallopt(M_MMAP_THRESHOLD, USUAL)
        library.mallopt(M_TRIM_THRESHOLD, 2 * USUAL)
        library.malloc_trim(0)


def release_file_pages(tensor: Tensor) -> None:
    """Release the memory of a tensor that lies over a file, if nothing was written to it.

    The file's values are read again when somebody asks. Any other tensor is left as it is.
    """
    if tensor.is_contiguous() and _is_all_of_a_file(tensor):
        release_pages(tensor)


def _is_all_of_a_file(tensor: Tensor) -> bool:
    """Return whether each page that is in memory is a file's: a changed one would be private."""
    table = Path("/proc/self/pagemap")
    first = tensor.data_ptr() // mmap.PAGESIZE
    after = -(-(tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE)
    try:
        with table.open("rb", buffering=0) as file:
            file.seek(first * _ENTRY)
            entries = file.read((after - first) * _ENTRY)
    except OSError as error:
        logger.debug("%s cannot be read (%s): no pages are released", table, error)
        return False
    pages = memoryview(entries).cast("Q")
    return len(pages) == after - first and all(
        page & _FROM_FILE or not page & _IN_MEMORY for page in pages
    )
