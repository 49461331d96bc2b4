"""Read weights from disk, safely and lazily: ``.safetensors`` and ``torch.save`` files.

A file's format is recognised by its content, not its name. Tensors stay memory-mapped if the format
allows it (the pages are private: writing to such a tensor never changes the file).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ldm.checkpoint.laid_over import LaidOver
from ldm.checkpoint.nesting import state_in
from ldm.checkpoint.pickle_machine import PickleFault
from ldm.checkpoint.safetensors_header import HeaderFault, read_header
from ldm.checkpoint.scaled import unscaled
from ldm.checkpoint.torch_files import ZIP, TorchFile, open_zip, read_torch_file
from ldm.checkpoint.unpickle import RefusedGlobal, StoredTensor, kind_of
from ldm.errors import UserError
from ldm.paths import at_home, exists, file_fault, file_size, is_folder

EXPECTED = "expected a .ckpt, .pt, .pth or .safetensors file of tensors"
_LONGEST_STEP = 18  # digits
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7-Zip"}
_PACKED |= {b"\x28\xb5\x2f\xfd": "zstd", b"Rar!": "RAR"}


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one file.

    Attributes:
        tensors: Name to CPU tensor, in the file's order and element types.
        path: The file.
        metadata: The ``__metadata__`` of a safetensors file, else empty.
        global_step: Training steps, if the file records them.
        stubbed: Classes that a pickle named and that were not imported.
        mapped: Whether the tensors are memory-mapped (read from the file on first use).
    """

    tensors: dict[str, torch.Tensor]
    path: Path
    metadata: dict[str, str] = field(default_factory=dict)
    global_step: int | None = None
    stubbed: tuple[str, ...] = ()
    mapped: bool = False


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint without executing anything in it.

    Args:
        path: A safetensors file or a file of ``torch.save``: ``{"state_dict": {...}, ...}``,
            another trainer's nesting (see ``state_in``) or a bare dict of tensors; pickled training
            state beside the tensors is stubbed.

    Raises:
        UserError: The file is missing, damaged, no checkpoint, or a pickle that asks to run code.
    """
    path = at_home(path)
    kind = identify(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    return _read_torch(path)


def identify(path: Path) -> str:
    """Detect a file's format: "safetensors", "zip" or "legacy" (torch.save before 1.6).

    Raises:
        UserError: It is anything else; the message says what.
    """
    if is_folder(path):
        hint = "a folder of diffusers" if exists(path / "model_index.json") else "a folder"
        raise UserError(f"checkpoint {str(path)!r} is {hint}; {EXPECTED}; give one such file")
    if fault := file_fault(path):
        raise UserError(
            f"checkpoint {str(path)!r} {fault}; {EXPECTED}; "
            "check the path, or fetch weights with scripts/download_models.py"
        )
    try:
        size = file_size(path)
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise UserError(
            f"checkpoint {str(path)!r} cannot be read ({error.strerror}); {EXPECTED}"
        ) from error
    wrong = _what_else(head, size)
    if wrong is not None:
        raise UserError(f"checkpoint {str(path)!r} is {wrong}")
    return _format_of(path, head, size)


def _format_of(path: Path, head: bytes, size: int) -> str:
    if head.startswith(ZIP):
        _check_zip(path)
        return "zip"
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{":
        if header + 8 > size:
            raise _cut_short(path)
        return "safetensors"
    if head.startswith(b"\x80"):
        return "legacy"
    if head[257:262] == b"ustar":
        raise UserError(
            f"checkpoint {str(path)!r} is a tar file as torch wrote before 2018; {EXPECTED}; "
            "load and save it once with a torch of its own time"
        )
    raise UserError(f"checkpoint {str(path)!r} is no checkpoint (unknown content); {EXPECTED}")


def _what_else(head: bytes, size: int) -> str | None:
    """Recognise the usual files that are mistaken for a checkpoint, or return None."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    again = f"{EXPECTED}; download it again"
    if size == 0:
        return f"empty (0 bytes); {again}"
    if text.startswith(b"version https://git-lfs"):
        return f"a git-lfs pointer, not the weights; {EXPECTED}; run 'git lfs pull' there"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"a web page (a download that asked for a login?); {again}"
    if head.startswith(b"GGUF"):
        return f"a GGUF file of quantised weights; {EXPECTED}; give the unquantised model"
    if kind := next((name for mark, name in _PACKED.items() if head.startswith(mark)), None):
        return f"a file packed by {kind}; {EXPECTED}; unpack it"
    if head.startswith(b"\x89HDF"):
        return f"an HDF5 (Keras) file; {EXPECTED}"
    if text.startswith(b"{") and head[8:9] != b"{":
        return f"a JSON text (an index or a configuration?); {EXPECTED}"
    if size < 10:
        return f"too short ({size} bytes); {again}"
    return None


def _cut_short(path: Path) -> UserError:
    return UserError(
        f"checkpoint {str(path)!r} is cut short or damaged; expected a whole file; "
        "download or copy it again"
    )


def _check_zip(path: Path) -> None:
    """Refuse a zip that torch did not write as a pickle of tensors."""
    try:
        with open_zip(path) as archive:
            names = [name.rpartition("/")[2] for name in archive.namelist()]
    except (PickleFault, OSError) as error:
        raise _cut_short(path) from error
    if "constants.pkl" in names:
        raise UserError(
            f"checkpoint {str(path)!r} is a TorchScript program; {EXPECTED}; "
            "save the module's state_dict() instead"
        )
    if "data.pkl" not in names:
        raise UserError(
            f"checkpoint {str(path)!r} is a zip that torch did not write; {EXPECTED}; unpack it"
        )


def _read_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        read_header(path)
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"checkpoint {str(path)!r} is damaged ({_first_line(error)}); "
            "expected a whole safetensors file; download or copy it again"
        ) from error
    step = metadata.get("global_step", "")
    known = step.isdecimal() and len(step) <= _LONGEST_STEP
    steps = int(step) if known else None
    return Checkpoint(_checked(tensors, tensors, path), path, metadata, steps, mapped=True)


def _read_torch(path: Path) -> Checkpoint:
    file = torch_file(path)
    state, made = _state_of(file.content, path), LaidOver(file)
    try:
        tensors = {
            n: made.tensor(v) if isinstance(v, StoredTensor) else v for n, v in state.items()
        }
    except Exception as error:  # a forged layout, or bytes that do not unpack
        raise _damaged(path, error) from error
    step = file.content.get("global_step")
    return Checkpoint(
        _checked(tensors, file.content, path),
        path,
        global_step=step if type(step) is int else None,
        stubbed=file.stubbed,
        mapped=file.mapped,
    )


def torch_file(path: Path) -> TorchFile:
    """Read a file of ``torch.save`` as descriptions of its tensors.

    Args:
        path: A file of which ``identify`` says "zip" or "legacy".

    Raises:
        UserError: It is damaged, or its pickle asks to run code.
    """
    if path.suffix == ".safetensors":
        # Other programs go by this ending alone.
        raise UserError(
            f"checkpoint {str(path)!r} is a file of torch.save under another format's name; "
            "expected safetensors content; rename it to .ckpt"
        )
    try:
        return read_torch_file(path)
    except RefusedGlobal as error:
        raise UserError(
            f"checkpoint {str(path)!r} asks to run {error.name}, which is no part of a tensor: "
            "refused, nothing was run; expected tensors only; "
            "get a .safetensors file from its author instead"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        # A damaged or forged pickle can fail in any way.
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"checkpoint {str(path)!r} is damaged ({_first_line(error)}); "
        "expected a file of torch.save; download or copy it again"
    )


def _state_of(content: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise UserError(
            f"checkpoint {str(path)!r} holds a {kind_of(content)}; "
            "expected a dict of tensors; save the module's state_dict()"
        )
    return state_in(content, lambda value: isinstance(value, StoredTensor))


def _checked(state: Mapping, content: Mapping, path: Path) -> dict[str, torch.Tensor]:
    """Return the entries that are tensors, as the numbers they stand for, without gradients."""
    tensors = {
        name: value.detach()
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not tensors:
        keys = ", ".join(repr(str(key)) for key in list(content)[:5]) or "nothing"
        raise UserError(
            f"checkpoint {str(path)!r} holds no tensors (its top level: {keys}); "
            "expected a dict of tensors or one under 'state_dict'; give a model's checkpoint"
        )
    return unscaled(tensors, path)


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message, shortened to fit into one of ours."""
    words = next(iter(str(error).splitlines()), "")[:120]
    if isinstance(error, (PickleFault, HeaderFault)):
        return words
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
