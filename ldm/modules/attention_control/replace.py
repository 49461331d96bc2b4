"""Swap words: each word of the target looks where the word in its place looked in the source.

Shapes: heads, N queries, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ldm.modules.attention_control.alignment import replacement
from ldm.modules.attention_control.edit import PromptEdit
from ldm.modules.attention_control.words import TokenizedPrompt


class Replace(PromptEdit):
    """Word swap, arXiv:2208.01626, section 3.2: M_t becomes the source's, word by word.

    Args:
        source: The prompt of the picture that is edited.
        targets: Edited prompts of as many words.
        **windows: As ``PromptEdit`` takes them.

    Raises:
        UserError: A target has another number of words.
    """

    def __init__(
        self, source: TokenizedPrompt, targets: Sequence[TokenizedPrompt], **windows: Any
    ) -> None:
        super().__init__(source, targets, **windows)
        self.mappers = [replacement(source, target) for target in targets]  # (L, L) each

    def edited(self, base: Tensor, own: Tensor, target: int) -> Tensor:
        return torch.einsum("hns,st->hnt", base, self.mappers[target].to(own))
