"""Data set of precomputed latents and caption embeddings: a folder of safetensors shards.

Encoding pictures and captions again in every epoch is most of the work of fine-tuning; this folder
is read instead. It is valid only with the encoders that wrote it.

Shapes: n items of a shard, C latent channels, h w latent sides, L tokens, D width.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ldm.atomic import replacing
from ldm.errors import UserError
from ldm.paths import at_home, folder_fault, is_file

INDEX, EMPTY, TEXTS = "index.json", "empty.safetensors", "texts"
OPEN_SHARDS = 64


@dataclass(frozen=True)
class Index:
    """The contents of a folder.

    Attributes:
        first_stage_key: Name of the encoded pictures.
        cond_stage_key: Name of the conditioning.
        first_stage: ``fingerprint`` of the first stage.
        cond_stage: That of the conditioner; None if the conditioning was not encoded.
        source: The data set, as YAML describes it.
        dtype: Element type on disk: float32 or float16.
        count: Items in all.
        shard_size: Items of a shard; the last one may have fewer.
    """

    first_stage_key: str
    cond_stage_key: str
    first_stage: str
    cond_stage: str | None
    source: str
    dtype: str
    count: int
    shard_size: int

    @property
    def shards(self) -> list[str]:
        """Names of the shards' files."""
        return [f"{n:06}.safetensors" for n in range(-(-self.count // self.shard_size))]

    def write(self, folder: Path) -> None:
        """Write ``index.json``."""
        with replacing(folder / INDEX) as part:
            part.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read_index(folder: Path) -> Index:
    """Read ``index.json``.

    Raises:
        UserError: It is missing, or not such an index.
    """
    expected = "expected a folder that scripts/precompute_latents.py wrote"
    if fault := folder_fault(folder):
        raise UserError(f"{str(folder)!r} {fault}; {expected}")
    try:
        content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return Index(**{field.name: content[field.name] for field in fields(Index)})
    except OSError as error:
        raise UserError(f"{str(folder)!r} has no readable {INDEX}; {expected}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{str(folder / INDEX)!r} is no such index ({error}); {expected}"
        ) from error


def fingerprint(module: nn.Module) -> str:
    """Return a hash of a module's weights, as float32 (sizes of training losses do not count)."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(module.state_dict().items()):
        if name.startswith("loss."):
            continue
        digest.update(f"{name}{tuple(value.shape)}".encode())
        # Bytes as torch sees them: NumPy does not know every element type.
        flat = value.detach().float().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


class PrecomputedLatents(Dataset):
    """Latents and embeddings from ``scripts/precompute_latents.py``, replacing the originals.

    Items: ``<first_stage_key>_moments`` (2C, h, w), mean and log-variance of the latent;
    ``<cond_stage_key>_embedding`` and ``<cond_stage_key>_empty`` (L, D), if the conditioning was
    encoded; all float32; and the labels and captions of the original data set.

    Args:
        root: The folder.

    Raises:
        UserError: The folder does not exist, or is incomplete.

    Example:
        >>> PrecomputedLatents("no/such/folder")
        Traceback (most recent call last):
        ...
        ldm.errors.UserError: 'no/such/folder' does not exist; expected a folder that \
scripts/precompute_latents.py wrote
    """

    def __init__(self, root: str):
        self.root = at_home(root)
        self.index = read_index(self.root)
        missing = [name for name in self.index.shards if not is_file(self.root / name)]
        if missing:
            raise UserError(
                f"{root!r} lacks {len(missing)} of {len(self.index.shards)} shards, the first is "
                f"{missing[0]}; run scripts/precompute_latents.py again: it goes on where it was"
            )
        self._shards: OrderedDict[int, tuple[Any, Mapping[str, list[str]]]] = OrderedDict()
        self._empty: Tensor | None = None

    def check_model(self, model: nn.Module) -> None:
        """Check that a model's encoders are those that wrote the folder.

        Args:
            model: A ``LatentDiffusion`` with its weights.

        Raises:
            UserError: They are not; the message says what differs.
        """
        index, organs = self.index, [("first_stage_key", "first_stage", "first_stage_model")]
        if index.cond_stage is not None:
            organs.append(("cond_stage_key", "cond_stage", "cond_stage_model"))
            if getattr(model, "cond_stage_trainable", False):
                raise UserError(
                    f"{str(self.root)!r} holds encoded captions, which a conditioner in training "
                    "would leave behind; write it with --no_text, or leave cond_stage_trainable out"
                )
        for key, name, attribute in organs:
            if getattr(model, key, None) != getattr(index, key):
                raise UserError(
                    f"{str(self.root)!r} was written for {key} {getattr(index, key)!r}, the model "
                    f"has {getattr(model, key, None)!r}; give them the same"
                )
            organ = getattr(model, attribute, None)
            if organ is None or fingerprint(organ) != getattr(index, name):
                raise UserError(
                    f"{str(self.root)!r} was written by another {name} than the model's; give the "
                    "model that one's checkpoint, or write the folder anew"
                )

    def __len__(self) -> int:
        return self.index.count

    def __getitem__(self, number: int) -> dict[str, Any]:
        if not 0 <= number < len(self):
            raise IndexError(f"item {number} of {len(self)}")
        shard, row = divmod(number, self.index.shard_size)
        file, texts = self._open(shard)
        item: dict[str, Any] = {}
        for name in file.keys():  # noqa: SIM118 - a file, not a mapping
            value = file.get_slice(name)[row]
            item[name] = value.float() if value.is_floating_point() else value
        item.update({name: entries[row] for name, entries in texts.items()})
        if self.index.cond_stage is not None:
            item[f"{self.index.cond_stage_key}_empty"] = self._read_empty()
        return item

    def _open(self, number: int) -> tuple[Any, Mapping[str, list[str]]]:
        """Open a shard, or reuse an open one; a process may only open a limited number of files."""
        from safetensors import safe_open

        if number in self._shards:
            self._shards.move_to_end(number)
            return self._shards[number]
        file = safe_open(self.root / self.index.shards[number], framework="pt")
        self._shards[number] = file, json.loads((file.metadata() or {}).get(TEXTS, "{}"))
        if len(self._shards) > OPEN_SHARDS:
            self._shards.popitem(last=False)
        return self._shards[number]

    def _read_empty(self) -> Tensor:
        from safetensors.torch import load_file

        if self._empty is None:
            self._empty = load_file(self.root / EMPTY)["embedding"].float()
        return self._empty

    def __getstate__(self) -> dict[str, Any]:
        # Spawned workers open the files themselves.
        return {**self.__dict__, "_shards": OrderedDict()}
