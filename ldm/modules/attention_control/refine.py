"""Add words: those that the target shares with the source keep their maps, new ones have their own.

Shapes: heads, N queries, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ldm.modules.attention_control.alignment import refinement
from ldm.modules.attention_control.edit import PromptEdit
from ldm.modules.attention_control.words import TokenizedPrompt


class Refine(PromptEdit):
    """Prompt refinement, arXiv:2208.01626, section 3.2: maps of the tokens in common stay.

    Args:
        source: The prompt of the picture that is edited.
        targets: Edited prompts; their tokens are aligned with the source's.
        **windows: As ``PromptEdit`` takes them.
    """

    def __init__(
        self, source: TokenizedPrompt, targets: Sequence[TokenizedPrompt], **windows: Any
    ) -> None:
        super().__init__(source, targets, **windows)
        self.aligned = [refinement(source, target) for target in targets]  # (L,) and (L,) each

    def edited(self, base: Tensor, own: Tensor, target: int) -> Tensor:
        index, kept = (each.to(own.device) for each in self.aligned[target])
        kept = kept.to(own)
        return base[..., index] * kept + own * (1.0 - kept)
