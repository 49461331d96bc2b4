"""Find a repository's files in the Hugging Face hub's local cache; never downloads."""

from __future__ import annotations

import os
from pathlib import Path


def hub_cache() -> Path:
    """Return the folder of the hub's local cache, located as huggingface_hub does."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(user_cache, "huggingface")
    return Path(home).expanduser() / "hub"


def snapshots(repository: str) -> list[Path]:
    """List a repository's cached revisions: first the one that "main" names, then newest first.

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
