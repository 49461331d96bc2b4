"""Find ImageNet's pictures in the usual folder layouts of an unpacked copy; never downloads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ldm.data.files import picture_files
from ldm.errors import UserError
from ldm.paths import at_home, is_file, is_folder, listing

IGNORED = frozenset({"n06596364_9591.JPEG"})
"""Skipped, as in the reference."""
TRAIN = ("ILSVRC2012_train/data", "ILSVRC2012_train", "ILSVRC/Data/CLS-LOC/train", "train")
VALIDATION = (
    *("ILSVRC2012_validation/data", "ILSVRC2012_validation", "ILSVRC/Data/CLS-LOC/val"),
    *("val", "validation"),
)
SPLIT_FOLDERS = {name.split("/")[0] for name in (*TRAIN, *VALIDATION)}
VALIDATION_LIST = "validation_synset.txt"


def default_root() -> Path:
    """Return the folder where CompVis keeps its data sets."""
    return at_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "autoencoders" / "data"


def split_folder(data_root: str | None, names: Sequence[str]) -> Path:
    """Find the folder of a split.

    Args:
        data_root: Where ImageNet is; None is CompVis's cache.
        names: Subfolders that the split may be in, the most likely first; ``data_root`` itself is
            tried last.

    Raises:
        UserError: There is none.
    """
    root = at_home(data_root) if data_root else default_root()
    for name in names:
        if is_folder(root / name):
            return root / name
    if is_folder(root) and _holds_classes(root):
        return root
    raise UserError(
        f"{root} has no ImageNet; expected pictures in folders of classes below it, in "
        f"{', '.join(names)} or directly; unpack it there, or set data_root"
    )


def _holds_classes(root: Path) -> bool:
    """Check that a folder holds classes or pictures, and not folders of splits."""
    names = [path.name for path in listing(root) if not path.name.startswith(".")]
    return bool(names) and not SPLIT_FOLDERS.intersection(names)


def all_pictures(folder: Path) -> list[str]:
    """List the pictures of a split, whatever their classes, as sorted paths relative to it."""
    return [name for name in picture_files(folder) if Path(name).name not in IGNORED]


def classed_files(folder: Path) -> list[tuple[str, str]]:
    """List the pictures of a split with their classes' identifiers, sorted.

    Returns:
        Pairs of path relative to ``folder`` and identifier. The identifier is the first folder of
        the path or, in a flat validation folder, the entry of ``validation_synset.txt``, which is
        in the folder or above it.

    Raises:
        UserError: A flat folder has no such list.
    """
    files = all_pictures(folder)
    if files and not any("/" in name for name in files):
        classes = _listed_classes(folder)
        return [(name, classes[name]) for name in files if name in classes]
    return [(name, name.split("/", 1)[0]) for name in files if "/" in name]


def _listed_classes(folder: Path) -> dict[str, str]:
    """Read lines ``ILSVRC2012_val_00000001.JPEG n01751748``."""
    for path in (folder / VALIDATION_LIST, folder.parent / VALIDATION_LIST):
        if is_file(path):
            lines = path.read_text("utf-8").splitlines()
            return dict(line.split()[:2] for line in lines if len(line.split()) >= 2)
    raise UserError(
        f"{folder} has pictures but no folders of classes; expected them sorted into such folders, "
        f"or their classes in {VALIDATION_LIST} beside them; sort them or add the file"
    )
