"""Write an embedding in the formats that other programs read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ldm.adapters.textual_inversion.embedding import Embedding
from ldm.adapters.textual_inversion.reading import ANY
from ldm.checkpoint.write import save_safetensors, whole
from ldm.errors import UserError

FORMS = {"a1111": (".pt",), "diffusers": (".safetensors", ".bin"), "kohya": (".safetensors",)}
"""The formats, and the endings of their files."""
_BESIDE = 2**16  # bytes that a file has beside its numbers, at most


def write_embedding(
    embedding: Embedding,
    path: str | Path,
    form: str = "a1111",
    header: Mapping[str, str] | None = None,
) -> Path:
    """Write an embedding, whole or not at all; its vectors in float32.

    Args:
        embedding: What was read or trained.
        path: The file. AUTOMATIC1111's program and ours call an embedding by its file's name.
        form: ``a1111`` (``.pt``), ``diffusers`` (``.safetensors`` or ``.bin``; the file also holds
            the word) or ``kohya`` (``.safetensors``).
        header: What is known of its training, under kohya's names: ``ss_steps``,
            ``ss_sd_model_name``, ``ss_new_sd_model_hash``. Safetensors files keep all of it.

    Returns:
        The path.

    Raises:
        UserError: The format is unknown, the file's ending is not one of its own, or it cannot be
            written.
    """
    path = Path(path)
    if form not in FORMS:
        raise UserError(f"form {form!r} of an embedding given; expected one of {', '.join(FORMS)}")
    if path.suffix.lower() not in FORMS[form]:
        endings = " or ".join(FORMS[form])
        raise UserError(f"{str(path)!r} given for an embedding of {form}; expected {endings}")
    vectors = embedding.vectors.float().contiguous()
    header = dict(header or {})
    content = _content(embedding, vectors, form, header)
    with whole(path, vectors.nbytes + _BESIDE) as part:
        if path.suffix.lower() == ".safetensors":
            save_safetensors(content, part, {"format": "pt", **header})
        else:
            torch.save(content, part)
    return path


def _content(
    embedding: Embedding, vectors: torch.Tensor, form: str, header: Mapping[str, str]
) -> dict[str, Any]:
    if form == "kohya":
        return {"emb_params": vectors}
    if form == "diffusers":
        return {embedding.name: vectors}
    steps, digest = header.get("ss_steps"), header.get("ss_new_sd_model_hash")
    return {
        "string_to_token": {ANY: 265},  # the id of CLIP's "*"
        "string_to_param": {ANY: vectors},
        "name": embedding.name,
        "step": None if steps is None else int(steps),
        "sd_checkpoint": None if digest is None else digest[:10],
        "sd_checkpoint_name": header.get("ss_sd_model_name"),
    }
