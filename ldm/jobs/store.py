"""Open the place where a run's files go: a folder, or an object store by fsspec."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ldm.jobs.base import Store, StoreError
from ldm.jobs.local_store import LocalStore
from ldm.jobs.object_store import KINDS, ObjectStore

__all__ = ["Store", "StoreError", "open_store"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def open_store(url: str | Path) -> Store:
    """Open a place for files. Nothing is made, and nobody is asked, before the first use.

    Args:
        url: A folder (also one that is mounted, and ``file://``); ``s3://bucket/folder``,
            ``gs://``, ``az://``, ``memory://`` (of this process) by fsspec.

    Raises:
        StoreError: The kind of address is unknown, or it holds credentials.
    """
    text = str(url)
    found = _SCHEME.match(text)
    if found is None:
        if not text:
            raise StoreError("no folder given; expected a path, or an address such as s3://b/run")
        return LocalStore(text)
    kind = found[1].lower()
    if kind == "file":
        return LocalStore(_local_path(text))
    if kind not in KINDS:
        raise StoreError(
            f"an address of kind {kind}://; expected a folder or one of "
            f"{', '.join(f'{each}://' for each in KINDS)}, where files appear whole or not at all; "
            "mount the place, and give the folder"
        )
    _refuse_credentials(kind, text)
    return ObjectStore(kind + text[len(kind) :])


def _local_path(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise StoreError(
            f"{url} is no file of this machine; expected file:///path/of/a/folder; give a path"
        )
    return unquote(parts.path)


def _refuse_credentials(kind: str, url: str) -> None:
    """Refuse what would stand in lists of processes, logs and manifests; never quote it."""
    host = url.split("://", 1)[1].split("/", 1)[0]
    user = host.rpartition("@")[0]
    if "?" in url or ":" in user or (user and not kind.startswith("abfs")):
        raise StoreError(
            f"the {kind}:// address seems to hold credentials; expected {kind}://bucket/folder; "
            "give them as the store's own tools take them: environment variables or their files"
        )
