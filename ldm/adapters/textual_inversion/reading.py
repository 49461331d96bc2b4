"""Read an embedding's file in any of the formats that people have.

AUTOMATIC1111    {"string_to_param": {"*": (n, D)}, "name": ..., "step": ...} by torch.save; also
and the paper's  the first program's, whose inner dict is an nn.ParameterDict
a picture        the same as JSON in a PNG's text ``sd-ti-embedding``, or in its pixels
diffusers        {"<word>": (n, D) or (D,)}
kohya            {"emb_params": (n, D)}
SDXL             {"clip_l": (n, 768), "clip_g": (n, 1280)}: read to be refused by its name
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.adapters.report import Report, base_of_width
from ldm.adapters.textual_inversion.embedding import KIND, SDXL, Embedding
from ldm.adapters.textual_inversion.picture import embedding_in, is_picture
from ldm.checkpoint.io import identify, read_checkpoint, torch_file
from ldm.checkpoint.laid_over import LaidOver
from ldm.checkpoint.unpickle import StoredTensor
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import at_home, file_fault

A1111, DIFFUSERS, KOHYA, PICTURE = "AUTOMATIC1111", "diffusers", "kohya", "picture"
NOTES = frozenset({"string_to_token", "name", "step", "sd_checkpoint", "sd_checkpoint_name"})
"""What AUTOMATIC1111's files say beside the vectors."""
ANY = "*"
"""The placeholder that such files have instead of a word."""
EXPECTED = "expected an embedding of one word, a table of n vectors"
_LISTED = 8


def read_embedding(path: str | Path, name: str | None = None) -> Embedding:
    """Read an embedding without executing anything in its file.

    Args:
        path: A ``.pt``, ``.bin`` or ``.safetensors`` file, or a picture that holds one.
        name: The word that shall call it; None takes the file's name without its ending. Where a
            file of diffusers holds several words, this says which.

    Raises:
        UserError: There is no such file, it holds no embedding or several, or it is damaged.
    """
    path = at_home(path)
    form, content = _content(path)
    form, vectors, said = _vectors(form, content, path, name)
    width = vectors.shape[-1]
    base = SDXL if form == SDXL else base_of_width(width)
    word = name or path.stem
    if not word.split():
        raise UserError(f"{KIND} {str(path)!r} has no name; expected a word; rename the file")
    aliases = tuple(each for each in said if each != ANY and each.split())
    report = Report(path, KIND, form, base, extent=f"{len(vectors)} vectors")
    report.unused += _unused(form, content)
    found = Embedding(word, vectors, report, aliases)
    called = " or ".join(map(quoted, found.triggers))
    report.extent += f", called by {called}"
    return found


def _content(path: Path) -> tuple[str, Mapping[str, Any]]:
    """Return a file's format as far as its kind says it, and its entries; tensors are tensors."""
    if fault := file_fault(path):
        raise UserError(f"{KIND} {str(path)!r} {fault}; {EXPECTED}; check the path")
    if is_picture(path):
        return PICTURE, embedding_in(path)
    if identify(path) == "safetensors":
        return "", read_checkpoint(path).tensors
    file = torch_file(path)
    if not isinstance(file.content, Mapping):
        raise UserError(f"{KIND} {str(path)!r} holds no dict; {EXPECTED}; give another file")
    return "", _made(file.content, LaidOver(file))


def _made(content: Mapping[Any, Any], file: LaidOver) -> dict[str, Any]:
    """Return a dict, and the dicts in it, with tensors for their descriptions."""

    def one(value: Any) -> Any:
        return file.tensor(value) if isinstance(value, StoredTensor) else value

    return {
        str(key): {str(k): one(v) for k, v in value.items()}
        if isinstance(value, Mapping)
        else one(value)
        for key, value in content.items()
    }


def _vectors(
    form: str, content: Mapping[str, Any], path: Path, name: str | None
) -> tuple[str, Tensor, list[str]]:
    """Return the format, the vectors (n, D), and which words the file has for them."""
    if isinstance(table := content.get("string_to_param"), Mapping):
        word, value = _only(_tensors(table), path, name)
        said = content.get("name") if form == PICTURE else None
        words = [word, said] if isinstance(said, str) else [word]
        return form or A1111, _checked(value, path), words
    tensors = _tensors(content)
    if {"clip_l", "clip_g"} & tensors.keys():
        return SDXL, _checked(tensors.get("clip_g", tensors.get("clip_l")), path), []
    if "emb_params" in tensors:
        return KOHYA, _checked(tensors["emb_params"], path), []
    word, value = _only(tensors, path, name)
    return DIFFUSERS, _checked(value, path), [word]


def _tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def _only(tensors: Mapping[str, Tensor], path: Path, name: str | None) -> tuple[str, Tensor]:
    if name in tensors:
        return name, tensors[name]
    if len(tensors) == 1:
        return next(iter(tensors.items()))
    found = ", ".join(map(quoted, list(tensors)[:_LISTED])) or "no tensor"
    more = f" and {len(tensors) - _LISTED} more" if len(tensors) > _LISTED else ""
    raise UserError(
        f"{KIND} {str(path)!r} holds {found}{more}; {EXPECTED}; give an embedding's file"
        + (", or the name of one of these" if tensors else "")
    )


def _checked(value: Tensor, path: Path) -> Tensor:
    if value.ndim not in (1, 2) or not value.numel() or not value.is_floating_point():
        raise UserError(
            f"{KIND} {str(path)!r} holds a table of shape {tuple(value.shape)} and type "
            f"{str(value.dtype).removeprefix('torch.')}; {EXPECTED}; give an embedding's file"
        )
    vectors = torch.atleast_2d(value.detach()).float()
    if not vectors.isfinite().all():
        raise UserError(
            f"{KIND} {str(path)!r} holds numbers that are not finite; {EXPECTED}; "
            "get the file again, or train it with a lower rate"
        )
    return vectors.clone()  # a mapped file may change under us


def _unused(form: str, content: Mapping[str, Any]) -> list[str]:
    """Return the names of tensors and entries that nothing was made of."""
    if "string_to_param" in content:
        known = NOTES | {"string_to_param"}
    elif form == SDXL:
        known = {"clip_l", "clip_g"}
    elif form == KOHYA:
        known = {"emb_params"}
    else:
        return []
    return [key for key in content if key not in known]
