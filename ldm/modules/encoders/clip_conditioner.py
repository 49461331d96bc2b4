"""What every conditioner around CLIP's text transformer shares, whichever tokenizer it reads with.

Shapes: B batch, L tokens (77), D width of the states.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.modules.encoders.base import AbstractEncoder, freeze, place
from ldm.modules.encoders.clip_text import CLIPTextConfig, CLIPTextModel
from ldm.modules.encoders.tokenizer import PromptTokenizer


class CLIPTextConditioner(AbstractEncoder):
    """A tokenizer before CLIP's text transformer, which a checkpoint fills.

    Args:
        tokenizer: What turns prompts into rows of ids.
        config: Sizes of the transformer.
        device: Where to put the weights; None leaves that to the caller, and so does building on
            the meta device. Tokens always follow the weights.
        trainable: Keep the weights trainable instead of freezing them.
        ckpt_path: Checkpoint of a whole model, or of contrastive training, to start from.

    Raises:
        UserError: Rows are longer than the transformer has positions.
    """

    def __init__(
        self,
        tokenizer: PromptTokenizer,
        config: CLIPTextConfig,
        *,
        device: str | torch.device | None = None,
        trainable: bool = False,
        ckpt_path: str | None = None,
    ) -> None:
        super().__init__()
        self.max_length = tokenizer.max_length
        if self.max_length > config.max_position_embeddings:
            raise UserError(
                f"max_length is {self.max_length}; the text model has "
                f"{config.max_position_embeddings} positions; lower max_length or raise "
                "text_config.max_position_embeddings"
            )
        self.tokenizer = tokenizer
        self.transformer = CLIPTextModel(config)
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path)
        place(self.transformer, device)
        if not trainable:
            self.freeze()

    def init_from_ckpt(self, path: str) -> None:
        """Take weights from a checkpoint that holds this encoder."""
        from ldm.checkpoint.load import load_component

        load_component(self, path, prefix="cond_stage_model.")

    def freeze(self) -> None:
        """Put the text model in eval mode and stop its gradients."""
        freeze(self.transformer)

    def forward(self, text: str | Sequence[str]) -> Tensor:
        """Encode prompts.

        Args:
            text: B prompts, or one prompt as a batch of one. Prompts are cut to ``max_length``
                tokens; ``tokenizer.truncated`` returns the rest.

        Returns:
            States after the final layer norm, (B, L, D), in the weights' dtype and device.
        """
        return self.transformer(input_ids=self.tokens(text)).last_hidden_state

    def tokens(self, text: str | Sequence[str]) -> Tensor:
        """Return the token ids (B, L) of prompts, on the weights' device."""
        batch = self.tokenizer(
            text,
            truncation=True,
            max_length=self.max_length,
            return_length=True,
            return_overflowing_tokens=False,
            padding="max_length",
            return_tensors="pt",
        )
        return batch["input_ids"].to(self._computes_on)

    def encode(self, text: str | Sequence[str]) -> Tensor:
        """Encode prompts; see ``forward``."""
        return self(text)

    @property
    def blocks(self) -> int:
        """How many blocks lie before the states."""
        return len(self.transformer.text_model.encoder.layers)

    def encode_ids(self, ids: Tensor, skip_last: int = 0, mask: Tensor | None = None) -> Tensor:
        """Encode rows of token ids.

        Args:
            ids: (B, L), on any device, with start, end and padding in them.
            skip_last: Blocks to leave out at the end.
            mask: (B, L) bool: which tokens may be looked at; None is all.

        Returns:
            States after the final layer norm, (B, L, D).
        """
        device = self._computes_on
        options = {} if mask is None else {"mask": mask.to(device)}
        return self.transformer(ids.to(device), skip_last=skip_last, **options).last_hidden_state

    @property
    def _computes_on(self) -> torch.device:
        # Not the table of tokens: a plan of devices leaves it on the host.
        return self.transformer.text_model.embeddings.position_embedding.weight.device


def resized(config: CLIPTextConfig, changes: Mapping[str, Any] | None) -> CLIPTextConfig:
    """Return sizes with changes by the names of ``CLIPTextConfig``; None changes nothing.

    Raises:
        UserError: There is no such size, or sizes do not go together.
    """
    base = {f.name: getattr(config, f.name) for f in fields(CLIPTextConfig)}
    changes = dict(changes or {})
    for name in changes:
        if name not in base:
            nearest = difflib.get_close_matches(name, base, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise UserError(f"text_config has no {name!r}; it takes {', '.join(base)}{hint}")
    try:
        return CLIPTextConfig(**(base | changes))
    except ValueError as error:
        raise UserError(f"text_config: {error}; correct the numbers") from error
