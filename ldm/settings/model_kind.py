"""The kinds of models, one entry each: how one is recognised, and which class draws with it.

The UNet's input channels decide most of it: C for latents only; 2C + 1 for latents, a mask and the
latents of the masked picture. Imports no torch.

A new kind is one class (see ``ldm.pipelines.walks``) and one entry in ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Task = Literal["text", "image", "mask", "neighbours", "edit", "tiles"]
"""Draw from a text; from a text and a picture; inside a mask; from a text and its neighbours; from
a text, edited into others; from a text and a picture, in tiles."""


@dataclass(frozen=True)
class ModelFacts:
    """The facts in a configuration that decide a model's kind.

    Attributes:
        channels: Latent channels C.
        inputs: Input channels of the UNet.
        encoder: Class of the conditioner; empty where there is none.
        word: The configuration's entry in place of a conditioner, if there is none.
        conditioning_key: Where conditioning enters.
    """

    channels: int
    inputs: int
    encoder: str
    word: str
    conditioning_key: str

    @property
    def sees_latents_alone(self) -> bool:
        """Whether the UNet takes nothing but its latents."""
        return self.inputs == self.channels

    @property
    def sees_mask(self) -> bool:
        """Whether the UNet takes a mask and its surroundings."""
        return self.inputs == 2 * self.channels + 1


@dataclass(frozen=True, eq=False)
class ModelKind:
    """Which pictures a model can draw, and with what.

    Attributes:
        name: A word for it.
        recognises: Returns whether a model is of this kind.
        walks: Import path of the class that draws, for each task that it supports.
        what: Says what such a model is; ``{inputs}`` are the UNet's input channels.
        program: The program that draws with it.
        repainting: Says how it repaints, with the same field; empty if it does not.
        own_values: The best settings for repainting: those of the program that the kind came
            with.
        takes_text: Whether it draws from a text.
    """

    name: str
    recognises: Callable[[ModelFacts], bool]
    walks: Mapping[Task, str]
    what: str
    program: str
    repainting: str = ""
    own_values: Mapping[str, float] = field(default_factory=dict)
    takes_text: bool = True

    def made_for(self, inputs: int) -> tuple[str, str]:
        """Say what a model of this kind is, and which program draws with it.

        Args:
            inputs: Input channels of its UNet.
        """
        return self.what.format(inputs=inputs), self.program

    def sentence(self, inputs: int) -> str:
        """Say how a model of this kind repaints.

        Args:
            inputs: Input channels of its UNet.
        """
        return self.repainting.format(inputs=inputs)


_WALKS, _INPAINTING = "ldm.pipelines.walks", "ldm.pipelines.inpainting"
_SEES = "An inpainting model ({inputs} input channels): it sees the mask and the picture around it"
OUTSIDE, FIRST_STAGE = "torch.nn.Identity", "__is_first_stage__"

RETRIEVAL = ModelKind(
    name="retrieval",
    recognises=lambda facts: facts.sees_latents_alone and facts.encoder == OUTSIDE,
    walks={"neighbours": f"{_WALKS}.TextWalk"},
    what="a model without a text encoder (it takes CLIP embeddings)",
    program="scripts/knn2img.py",
)
TEXT = ModelKind(
    name="text",
    recognises=lambda facts: facts.sees_latents_alone and facts.encoder != "",
    walks={
        "text": f"{_WALKS}.TextWalk",
        "image": f"{_WALKS}.ImageWalk",
        "mask": f"{_INPAINTING}.MaskedWalk",
        "edit": "ldm.pipelines.editing.EditWalk",
        "tiles": "ldm.pipelines.tiles.TileWalk",
    },
    what="a model with a text encoder of its own",
    program="scripts/txt2img.py",
    repainting="An ordinary model ({inputs} input channels): before every step the part to keep "
    "is put back at that step's noise level.",
    own_values={"scale": 5.0, "strength": 0.75},
)
INPAINT = ModelKind(
    name="inpaint",
    recognises=lambda facts: (
        facts.sees_mask and facts.conditioning_key == "hybrid" and facts.encoder != ""
    ),
    walks={"mask": f"{_INPAINTING}.HybridWalk"},
    what="a model for inpainting only ({inputs} input channels)",
    program="scripts/inpaint.py",
    repainting=f"{_SEES}.",
    own_values={"scale": 7.5, "strength": 1.0},
)
FILL = ModelKind(
    name="fill",
    recognises=lambda facts: facts.sees_mask and facts.word == FIRST_STAGE,
    walks={"mask": f"{_INPAINTING}.FillWalk"},
    what="a model without a text encoder ({inputs} input channels, for inpainting)",
    program="scripts/inpaint.py",
    repainting=f"{_SEES}; it takes no text.",
    own_values={"scale": 1.0, "strength": 1.0},
    takes_text=False,
)
# The first one that recognises a model is its kind.
KINDS = [RETRIEVAL, TEXT, INPAINT, FILL]
