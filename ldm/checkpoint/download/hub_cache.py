"""Find a repository's files in the Hugging Face hub's local cache; never downloads."""

from __future__ import annotations

import os
from pathlib import Path

from ldm.paths import ERRORS, at_home, listing, modified


def hub_cache() -> Path:
    """Return the folder of the hub's local cache, located as huggingface_hub does."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return at_home(os.environ[variable])
    user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(user_cache, "huggingface")
    return at_home(home) / "hub"


def snapshots(repository: str) -> list[Path]:
    """List a repository's cached revisions: first the one that "main" names, then newest first.

    Args:
        repository: Such as ``openai/clip-vit-large-patch14``.

    Returns:
        Their folders; none where there is no cache or it cannot be looked into.
    """
    home = hub_cache() / f"models--{repository.replace('/', '--')}"
    folder, main = home / "snapshots", home / "refs" / "main"
    try:
        current = main.read_text(encoding="utf-8").strip()
    except ERRORS:
        current = None
    found = sorted(listing(folder), key=modified, reverse=True)
    return sorted(found, key=lambda path: path.name != current)
