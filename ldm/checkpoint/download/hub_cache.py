"""Where the hub's local cache keeps a repository's files. Looks only; never downloads."""

from __future__ import annotations

import os
from pathlib import Path


def hub_cache() -> Path:
    """Give the folder of the hub's local cache, as huggingface_hub finds it."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(user_cache, "huggingface")
    return Path(home).expanduser() / "hub"


def snapshots(repository: str) -> list[Path]:
    """List the cached revisions of a repository: the one that "main" names, then the newest.

    Args:
        repository: Such as ``openai/clip-vit-large-patch14``.
    """
    home = hub_cache() / f"models--{repository.replace('/', '--')}"
    folder, main = home / "snapshots", home / "refs" / "main"
    if not folder.is_dir():
        return []
    current = main.read_text(encoding="utf-8").strip() if main.is_file() else None
    found = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    return sorted(found, key=lambda path: path.name != current)
