"""The four stages of a latent diffusion model, and a ledger of which are on the device.

    text -> (unet_encode -> unet_decode) for every step -> autoencoder

A stage of the UNet is a sequence of layers, in the order in which they compute; the text encoder
and the autoencoder are one layer each.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from torch import nn

from ldm.errors import UserError
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.modules.diffusionmodules.openaimodel import TimestepEmbedSequential

STAGES = ("text", "unet_encode", "unet_decode", "autoencoder")
UNET = ("unet_encode", "unet_decode")

REMEMBERED = 2**15
"""Least number of events that a ledger keeps; older ones are dropped, so a server can run on."""

LARGE_TABLE = 2**20
"""Bytes from which a table that is looked up stays on the host: a prompt needs few of its rows."""

_UNET_MODULES = (
    "time_embed",
    "input_blocks",
    "middle_block",
    "output_blocks",
    "out",
    "encode",
    "decode",
)


@dataclass(frozen=True)
class Event:
    """One arrival or departure.

    Attributes:
        action: What happened.
        stage: The stage, or the UNet layer (``input_blocks.1.0``) if layers move one by one.
        bytes: Size of its weights.
    """

    action: Literal["load", "unload"]
    stage: str
    bytes: int


class Ledger:
    """A record of what is on the compute device, in order, to verify that a plan is kept.

    On a CPU nothing moves; the ledger records what would.

    Attributes:
        events: Arrivals and departures, oldest first; the latest ``REMEMBERED`` at least.
        peak_bytes: Most bytes of weights on the device at once.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.peak_bytes = 0
        self._held: dict[str, int] = {}

    @property
    def resident(self) -> set[str]:
        """The stages and layers on the device now."""
        return set(self._held)

    def load(self, stage: str, size: int) -> None:
        """Record that ``size`` bytes of weights have arrived."""
        assert stage not in self._held, f"{stage} is there already"
        self._held[stage] = size
        self.peak_bytes = max(self.peak_bytes, sum(self._held.values()))
        self._note(Event("load", stage, size))

    def unload(self, stage: str) -> None:
        """Record that a stage or layer has left; does nothing if it is not on the device."""
        if stage in self._held:
            self._note(Event("unload", stage, self._held.pop(stage)))

    def _note(self, event: Event) -> None:
        self.events.append(event)
        if len(self.events) >= 2 * REMEMBERED:
            del self.events[:REMEMBERED]


def layers_of(model: LatentSpaceDiffusion) -> dict[str, dict[str, nn.Module]]:
    """Return the layers of every stage by name, in the order in which they compute.

    A model without a text encoder, or with the first stage in its place, has an empty ``text``.

    Raises:
        UserError: The UNet has no halves that can run separately.
    """
    unet = model.model.diffusion_model
    missing = [name for name in _UNET_MODULES if not hasattr(unet, name)]
    if missing:
        raise UserError(
            f"the UNet is a {type(unet).__name__} without {', '.join(missing)}; expected the parts "
            "of ldm's UNetModel; run this model without a plan of devices"
        )
    conditioner = model.cond_stage_model
    has_text = conditioner is not None and conditioner is not model.first_stage_model
    return {
        "text": {"text": conditioner} if has_text else {},
        "unet_encode": {
            **_named(unet, "time_embed", "label_emb"),
            **_unfolded("input_blocks", unet.input_blocks),
            **_unfolded("middle_block", [unet.middle_block], numbered=False),
        },
        "unet_decode": {
            **_unfolded("output_blocks", unet.output_blocks),
            **_named(unet, "out", "id_predictor"),
        },
        "autoencoder": {"autoencoder": model.first_stage_model},
    }


def tables_of(model: LatentSpaceDiffusion) -> list[nn.Embedding]:
    """Return the text encoder's large tables, such as CLIP's of its 49,408 tokens (145 MiB)."""
    conditioner = model.cond_stage_model
    if conditioner is None or conditioner is model.first_stage_model:
        return []
    held = Counter(id(p) for m in conditioner.modules() for p in m._parameters.values())
    return [
        module
        for module in conditioner.modules()
        if type(module) is nn.Embedding
        and module.weight.nbytes >= LARGE_TABLE
        and held[id(module.weight)] == 1  # who shares it may multiply with it
    ]


def _named(unet: nn.Module, *names: str) -> dict[str, nn.Module]:
    return {name: getattr(unet, name) for name in names if hasattr(unet, name)}


def _unfolded(name: str, blocks: object, numbered: bool = True) -> dict[str, nn.Module]:
    """Return the layers inside blocks by their prefixes in the UNet's keys."""
    layers: dict[str, nn.Module] = {}
    for number, block in enumerate(blocks):
        place = f"{name}.{number}" if numbered else name
        if isinstance(block, TimestepEmbedSequential):
            layers.update({f"{place}.{n}": layer for n, layer in enumerate(block)})
        else:
            layers[place] = block
    return layers
