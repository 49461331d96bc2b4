"""Pieces: weights that move together, their host memory, and how modules switch to a copy.

Nothing is ever copied back: a module's entry is pointed at the copy on the device, and later back
at the host tensor, which stayed where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.offload.stages import STAGES, layers_of, tables_of

ALIGNMENT = 256
"""Tensors are aligned to multiples of this many bytes, as in memory that CUDA allocates."""


@dataclass
class _Weight:
    """A host tensor and every module entry that refers to it.

    Attributes:
        tensor: Parameter or buffer.
        entries: A module's ``_parameters`` or ``_buffers``, and the name in it.
        owners: The pieces that the tensor belongs to.
    """

    tensor: Tensor
    entries: list[tuple[dict, str]] = field(default_factory=list)
    owners: set[str] = field(default_factory=set)

    def show(self, tensor: Tensor) -> None:
        """Make the modules compute with ``tensor``."""
        for entries, name in self.entries:
            entries[name] = tensor


class Piece:
    """Weights that are moved to the device and released together.

    Args:
        name: A stage or a layer of the UNet.
        weights: Its weights.

    Attributes:
        nbytes: Bytes of all its tensors in one buffer, each aligned.
    """

    def __init__(self, name: str, weights: Sequence[_Weight]):
        self.name = name
        self._weights = list(weights)
        self._offsets, self.nbytes = [], 0
        for weight in self._weights:
            self._offsets.append(self.nbytes)
            self.nbytes += -(-weight.tensor.nbytes // ALIGNMENT) * ALIGNMENT
        self._flat: Tensor | None = None

    def find_flat(self) -> Tensor | None:
        """Return the host tensors as one buffer if an earlier ``settle`` left them so."""
        tensors = [weight.tensor for weight in self._weights]
        if not tensors:
            return None
        storage = tensors[0].untyped_storage()
        start = tensors[0].storage_offset() * tensors[0].itemsize
        for tensor, offset in zip(tensors, self._offsets, strict=True):
            together = tensor.untyped_storage()._cdata == storage._cdata
            if not together or tensor.storage_offset() * tensor.itemsize != start + offset:
                return None
        if start + self.nbytes > storage.nbytes():
            return None
        return torch.empty(0, dtype=torch.uint8).set_(storage, start, (self.nbytes,))

    @torch.no_grad()
    def settle(self, flat: Tensor) -> None:
        """Move the host tensors into ``flat``, bytes (nbytes,), so that one copy transfers all."""
        for weight, view in zip(self._weights, self.views(flat), strict=True):
            if weight.tensor.data_ptr() != view.data_ptr():
                weight.tensor.data = view.copy_(weight.tensor)
        self._flat = flat

    def views(self, flat: Tensor) -> list[Tensor]:
        """Return views of the piece's tensors in ``flat``, bytes (nbytes,)."""
        return [
            flat[start : start + weight.tensor.nbytes]
            .view(weight.tensor.dtype)
            .as_strided(weight.tensor.shape, _dense_strides(weight.tensor))
            for weight, start in zip(self._weights, self._offsets, strict=True)
        ]

    @torch.no_grad()
    def copy_to(self, flat: Tensor, *, non_blocking: bool = False) -> None:
        """Copy the host values into ``flat``, bytes (nbytes,) on any device."""
        if self._flat is not None:
            flat.copy_(self._flat, non_blocking=non_blocking)
            return
        for weight, view in zip(self._weights, self.views(flat), strict=True):
            view.copy_(weight.tensor, non_blocking=non_blocking)

    def copies(self, flat: Tensor) -> list[Tensor]:
        """Return ``views(flat)`` as modules hold them: parameters as parameters."""
        return [
            # Without a gradient, also because autocast would else keep a half-precision copy.
            nn.Parameter(view, requires_grad=False)
            if isinstance(weight.tensor, nn.Parameter)
            else view
            for weight, view in zip(self._weights, self.views(flat), strict=True)
        ]

    def show(self, copies: Iterable[Tensor]) -> None:
        """Make the modules compute with copies that ``copies`` returned."""
        for weight, copy in zip(self._weights, copies, strict=True):
            weight.show(copy)

    def go_home(self) -> None:
        """Point the modules at the host tensors again."""
        for weight in self._weights:
            weight.show(weight.tensor)


def _dense_strides(tensor: Tensor) -> tuple[int, ...]:
    """Return strides for a dense copy of ``tensor``, channels last if it is."""
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    if last or tensor.is_contiguous():
        return tensor.stride()
    return torch.empty(tensor.shape, device="meta").stride()


@dataclass(frozen=True)
class Pieces:
    """A model's weights, cut into pieces.

    Attributes:
        stages: The pieces of each stage, in the order in which they compute.
        common: Weights of no stage or of several: the noise schedule, shared weights. They are
            small and stay on the device.
    """

    stages: dict[str, list[Piece]]
    common: Piece

    def __iter__(self) -> Iterator[Piece]:
        for stage in STAGES:
            yield from self.stages[stage]


def cut(model: LatentSpaceDiffusion) -> Pieces:
    """Cut a model into pieces.

    Averaged weights (``model_ema``) and ``tables_of`` the text are in none: they stay on the host.

    Raises:
        UserError: As ``layers_of``.
    """
    weights = _weights_of(model)
    for table in tables_of(model):
        weights.pop(id(table.weight), None)
    stages = layers_of(model)
    for layers in stages.values():
        for name, layer in layers.items():
            for _, _, tensor in _entries(layer):
                if id(tensor) in weights:
                    weights[id(tensor)].owners.add(name)
    owned: dict[str, list[_Weight]] = {name: [] for names in stages.values() for name in names}
    common = []
    for weight in weights.values():
        alone = len(weight.owners) == 1
        (owned[next(iter(weight.owners))] if alone else common).append(weight)
    pieces = {
        stage: [Piece(name, owned[name]) for name in layers] for stage, layers in stages.items()
    }
    return Pieces(pieces, Piece("common", common))


def _weights_of(model: LatentSpaceDiffusion) -> dict[int, _Weight]:
    weights: dict[int, _Weight] = {}
    for name, child in model.named_modules():
        if name.split(".")[0] == "model_ema":
            continue
        for entries, key, tensor in _own_entries(child):
            weights.setdefault(id(tensor), _Weight(tensor)).entries.append((entries, key))
    return weights


def _entries(module: nn.Module) -> Iterator[tuple[dict, str, Tensor]]:
    for child in module.modules():
        yield from _own_entries(child)


def _own_entries(module: nn.Module) -> Iterator[tuple[dict, str, Tensor]]:
    for entries in (module._parameters, module._buffers):
        yield from ((entries, key, tensor) for key, tensor in entries.items() if tensor is not None)
