"""Replace words where a target has as many as the source, and refine elsewhere.

Shapes: heads, N queries, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ldm.modules.attention_control.alignment import is_swap
from ldm.modules.attention_control.edit import PromptEdit
from ldm.modules.attention_control.refine import Refine
from ldm.modules.attention_control.replace import Replace
from ldm.modules.attention_control.words import TokenizedPrompt


class Auto(PromptEdit):
    """Chooses between ``Replace`` and ``Refine`` for each target.

    Args:
        source: The prompt of the picture that is edited.
        targets: Edited prompts.
        **windows: As ``PromptEdit`` takes them.
    """

    def __init__(
        self, source: TokenizedPrompt, targets: Sequence[TokenizedPrompt], **windows: Any
    ) -> None:
        super().__init__(source, targets, **windows)
        # Windows hold here, in the base; the chosen ones only say what becomes of the maps.
        self.chosen = [
            (Replace if is_swap(source, target) else Refine)(source, [target]) for target in targets
        ]

    def edited(self, base: Tensor, own: Tensor, target: int) -> Tensor:
        return self.chosen[target].edited(base, own, 0)
