"""Japanese Stable Diffusion's text encoder: CLIP's transformer behind a sentencepiece vocabulary.

Shapes: B batch, L tokens (77), D width of the states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.modules.encoders.clip_conditioner import CLIPTextConditioner, resized
from ldm.modules.encoders.clip_text import CLIPTextConfig
from ldm.modules.encoders.sentencepiece_tokenizer import SentencePieceTokenizer


class FrozenJapaneseCLIPEmbedder(CLIPTextConditioner):
    """The text encoder of rinna's Japanese Stable Diffusion: CLIP's sizes, other words.

    Any sentencepiece vocabulary will do, of any language. Nothing is downloaded: the weights are
    random until a checkpoint fills ``cond_stage_model.transformer.*`` or training sets them, and
    the tokenizer is read from a path, on first use.

    Args:
        tokenizer_path: A folder with ``spiece.model`` (or ``tokenizer.json``). A relative path is
            looked for beside the YAML that has it, then in the working directory.
        text_config: Sizes that differ from CLIP ViT-L/14's, by the names of ``CLIPTextConfig``.
            ``vocab_size`` is needed: at least the number of the vocabulary's pieces.
        max_length: Tokens per prompt L, the end token included; there is no start token.
        do_lower_case: See ``SentencePieceTokenizer``.
        nfkc: See ``SentencePieceTokenizer``.
        device: Where to put the weights; None leaves that to the caller.
        trainable: Keep the weights trainable instead of freezing them.
        ckpt_path: Checkpoint of a whole model to start from.

    Raises:
        UserError: ``vocab_size`` is not given, or sizes do not go together.
    """

    def __init__(
        self,
        tokenizer_path: str | Path | None = None,
        text_config: Mapping[str, Any] | None = None,
        max_length: int = 77,
        do_lower_case: bool = True,
        nfkc: bool = True,
        device: str | torch.device | None = None,
        trainable: bool = False,
        ckpt_path: str | None = None,
    ) -> None:
        if "vocab_size" not in (text_config or {}):
            raise UserError(
                "text_config has no vocab_size; expected the number of pieces of the tokenizer "
                "(rinna's has 32000); add it to cond_stage_config.params.text_config"
            )
        super().__init__(
            SentencePieceTokenizer(
                tokenizer_path, max_length, do_lower_case=do_lower_case, nfkc=nfkc
            ),
            resized(CLIPTextConfig(), text_config),
            device=device,
            trainable=trainable,
            ckpt_path=ckpt_path,
        )

    def tokens(self, text: str | Sequence[str]) -> Tensor:
        """Return the token ids (B, L) of prompts, on the weights' device.

        Raises:
            UserError: No tokenizer is found, or it has more pieces than the weights have rows.
        """
        known, pieces = self.transformer.config.vocab_size, len(self.tokenizer)
        if pieces > known:
            raise UserError(
                f"the tokenizer {self.tokenizer.file} has {pieces} pieces; the text encoder knows "
                f"{known}; set tokenizer_path to the vocabulary that it was trained with, or "
                "text_config.vocab_size to train another"
            )
        return super().tokens(text)
