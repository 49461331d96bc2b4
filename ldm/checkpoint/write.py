"""Write weights to disk: room looked for, complete or not at all, a failure in one line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ldm.atomic import discard, part_beside, replacing
from ldm.errors import UserError
from ldm.paths import MISSING, room_fault, unreachable


@contextlib.contextmanager
def whole(out: Path, needed: int) -> Iterator[Path]:
    """Yield a path beside ``out`` to write to, and move it to ``out`` if the block succeeds.

    Args:
        out: A file or a folder; its parent folder is made. An existing one is replaced.
        needed: Bytes that will be written.

    Yields:
        A path that does not exist yet.

    Raises:
        UserError: The disk has too little space, or ``out`` cannot be written.
    """
    fault = unreachable(out)
    if fault not in (None, MISSING):
        raise UserError(f"output {str(out)!r} cannot be written (it {fault}); give another")
    try:
        with replacing(out) as part:
            if lacking := room_fault(out.parent, needed):
                raise UserError(f"output {str(out)!r} {lacking}; make room, or give another place")
            yield part
    except (OSError, SafetensorError) as error:
        raise UserError(f"output {str(out)!r} cannot be written ({error})") from error


def save_safetensors(tensors: Mapping[str, Tensor], path: Path, header: Mapping[str, str]) -> None:
    """Write contiguous CPU tensors to a new safetensors file.

    Args:
        tensors: Name to tensor.
        path: The file.
        header: Entries that describe it.

    Raises:
        OSError: It cannot be written.
        SafetensorError: Likewise.
    """
    from safetensors.torch import save_file

    # The library begins a temporary file of its own beside the one it writes, and a kill leaves it
    # there: it gets a folder to itself, which the next run clears up.
    folder = part_beside(path)
    inside = folder / "weights"
    try:
        folder.mkdir()
        with inside.open("ab") as file:
            mode = os.fstat(file.fileno()).st_mode
        save_file(dict(tensors), inside, metadata=dict(header))
        inside.chmod(mode)  # the library creates files that only their owner may read
        os.replace(inside, path)
    finally:
        discard(folder)


def save_ckpt(tensors: Mapping[str, Tensor], path: Path, header: Mapping[str, str]) -> None:
    """Write CPU tensors as training does; of the header only ``global_step`` can be kept."""
    # A mapped tensor is a view of a storage as large as its file, which torch would write whole.
    content: dict[str, Any] = {"state_dict": {name: v.clone() for name, v in tensors.items()}}
    if step := header.get("global_step"):
        content["global_step"] = int(step)
    torch.save(content, path)


def size_of(tensors: Mapping[str, Tensor]) -> int:
    """Return how many bytes tensors take."""
    return sum(value.nbytes for value in tensors.values())
