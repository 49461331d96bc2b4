"""SHA-256 of files, remembered while the file is the same; of large ones, from run to run."""

from __future__ import annotations

import functools
import hashlib
import time

from ldm.keeping import keep, kept
from ldm.paths import PathLike, identity, real_path

KEPT_FROM = 2**28
"""Bytes from which on the next run knows a hash: two tenths of a second are worth no table."""
MOST = 1000
"""Files that are remembered, the last ones."""
SETTLED = 2.0
"""Seconds that a file has to have rested: clocks of file systems are coarse, and one that was
written twice within a tick would look like one."""
_TABLE = "hashes"
_BLOCK = 2**22


def file_hash(path: PathLike) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError, ValueError: It cannot be read.
    """
    digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK))
    with open(path, "rb", buffering=0) as file:  # a recipe may name any file, of any size
        while length := file.readinto(block):
            digest.update(block[:length])
    return digest.hexdigest()


def remembered_hash(path: PathLike) -> str:
    """Return what ``file_hash`` does, from memory if the file is the one it was computed of.

    The same is a file of the same length, times and number: any write changes its times.

    Raises:
        OSError, ValueError: It cannot be read.
    """
    state = identity(path)
    return file_hash(path) if state is None else _remembered(str(path), state)


@functools.lru_cache(maxsize=2**17)  # a run of many pictures may begin from as many
def _remembered(path: str, state: tuple[int, ...]) -> str:
    if state[0] < KEPT_FROM:
        return file_hash(path)
    name = str(real_path(path))
    entry = kept(_TABLE).get(name)
    if isinstance(entry, list) and entry[:-1] == list(state) and _is_hash(entry[-1]):
        return entry[-1]
    digest = file_hash(path)
    if identity(path) == state and time.time_ns() - max(state[1:3]) > SETTLED * 1e9:
        others = {key: value for key, value in kept(_TABLE).items() if key != name}
        keep(_TABLE, dict([*others.items(), (name, [*state, digest])][-MOST:]))
    return digest


def _is_hash(digest: object) -> bool:
    return isinstance(digest, str) and len(digest) == hashlib.sha256().digest_size * 2
