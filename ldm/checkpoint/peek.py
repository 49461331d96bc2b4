"""Read the shapes of a checkpoint's tensors without torch and without reading the weights.

Programs choose a configuration by these shapes before torch is imported: the header of a
safetensors file and the pickle of a ``.ckpt`` are separate from the weights.
"""

from __future__ import annotations

from pathlib import Path

from ldm.checkpoint.nesting import state_in
from ldm.checkpoint.safetensors_header import read_header
from ldm.checkpoint.torch_files import ZIP, read_torch_file
from ldm.checkpoint.unpickle import StoredTensor

Shape = tuple[int, ...]


def peek_shapes(path: str | Path) -> dict[str, Shape]:
    """Return the shapes of a file's tensors by name.

    Args:
        path: A ``.safetensors`` file or what ``torch.save`` writes.

    Returns:
        Empty for anything else and for damaged files: loading them reports what is wrong.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(9)
            if head[8:] != b"{" or head.startswith(ZIP):
                return _of_torch(Path(path))
        entries = read_header(path).items()
        return {name: tuple(entry["shape"]) for name, entry in entries if "shape" in entry}
    except Exception:  # a damaged file can fail in any way
        return {}


def _of_torch(path: Path) -> dict[str, Shape]:
    state = state_in(read_torch_file(path).content, lambda each: isinstance(each, StoredTensor))
    return {name: each.shape for name, each in state.items() if isinstance(each, StoredTensor)}
