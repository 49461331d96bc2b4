"""What a model takes beside its latents, told by its configuration. Imports no torch.

A UNet's input channels tell it: C for its latents alone; 2C + 1 for latents, a mask and the latents
of the picture without what the mask marks.
"""

from __future__ import annotations

from enum import Enum


class ModelKind(Enum):
    """Which pictures a model can draw.

    Attributes:
        TEXT: Draws from text; repaints by having the kept part put back before every step.
        INPAINT: Repaints from text, and sees mask and surroundings (hybrid conditioning).
        FILL: Repaints without text, and sees mask and surroundings (concat conditioning).
        RETRIEVAL: Draws from CLIP's rows for a text and its neighbours, encoded outside of it.
    """

    TEXT = "text"
    INPAINT = "inpaint"
    FILL = "fill"
    RETRIEVAL = "retrieval"

    def made_for(self, inputs: int) -> tuple[str, str]:
        """Say what a model of this kind is, and which program draws with it.

        Args:
            inputs: Input channels of its UNet.
        """
        return {
            ModelKind.TEXT: ("a model with a text encoder of its own", "scripts/txt2img.py"),
            ModelKind.INPAINT: (
                f"a model for inpainting alone ({inputs} input channels)",
                "scripts/inpaint.py",
            ),
            ModelKind.FILL: (
                f"a model without a text encoder ({inputs} input channels, for inpainting)",
                "scripts/inpaint.py",
            ),
            ModelKind.RETRIEVAL: (
                "a model without a text encoder (it takes the rows of CLIP)",
                "scripts/knn2img.py",
            ),
        }[self]

    def sentence(self, inputs: int) -> str:
        """Say how a model of this kind repaints.

        Args:
            inputs: Input channels of its UNet.
        """
        if self is ModelKind.TEXT:
            return (
                f"An ordinary model ({inputs} input channels): before every step the part to keep "
                "is put back at that step's noise."
            )
        text = "" if self is ModelKind.INPAINT else "; it takes no text"
        return (
            f"An inpainting model ({inputs} input channels): it sees the mask and the picture "
            f"around it{text}."
        )


REPAINTING = (ModelKind.TEXT, ModelKind.INPAINT, ModelKind.FILL)
