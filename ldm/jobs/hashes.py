"""What files and folders hold, as SHA-256: a digest knows by it what a picture is drawn from.

Imports no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ldm.digests import remembered_hash
from ldm.paths import at_home, is_file, is_folder, listing
from ldm.pipelines.adapter_files import WEIGHTS

_READ = WEIGHTS | {".json", ".txt", ".model", ".spm"}
"""Endings of what models in folders are read from: READMEs and other libraries' files count not."""


def hash_of(path: str | Path) -> str | None:
    """Return the SHA-256 of a file, or of what a folder holds; None where nothing is there.

    That of a file which has not changed is remembered.
    """
    found = at_home(path)
    if is_folder(found):
        return hash_of_all(each for each in listing(found) if each.suffix.lower() in _READ)
    return remembered_hash(found) if is_file(found) else None


def hash_of_all(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of several files: of their names and hashes, in the order of names."""
    whole = hashlib.sha256()
    for path in sorted(filter(is_file, paths)):
        own = remembered_hash(path)
        whole.update(f"{path.name} {own}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()
