"""A sentencepiece vocabulary of a few Japanese and English words, trained in a blink."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceTrainer

SENTENCES = (
    "赤い猫の写真",
    "青い犬の写真、白い背景",
    "サラリーマンが満員電車に乗る油絵",
    "夕日の海と富士山の水彩画",
    "桜の下の女の子、アニメ、高画質",
    "ネコとピカピカの星、ｎｅｏｎ　ｃｉｔｙ",
    "a photo of a red cat, oil painting",
    "blue house on a hill, 1girl, masterpiece",
    "cyberpunk city at night, 4k, highly detailed",
    "古いお寺の庭で、着物を着た人がお茶を飲む",
)
T5_IDS = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "pad_piece": "<pad>"}
# As in rinna's files: the unknown piece first, and padding under a name of its own.
RINNA_IDS = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1, "control_symbols": ["[PAD]"]}
RINNA_NAMES = {"eos_token": "</s>", "pad_token": "[PAD]", "unk_token": "<unk>", "bos_token": "<s>"}


def write_tokenizer(
    folder: Path, *, ids: dict[str, Any] | None = None, rule: str = "nmt_nfkc", size: int = 140
) -> Path:
    """Train a vocabulary, write it as a folder that T5Tokenizer reads, and return the folder.

    Args:
        folder: Where to; it is made.
        ids: ``T5_IDS`` or ``RINNA_IDS``.
        rule: How the vocabulary normalises text by itself; sentencepiece's default, or
            ``identity``.
        size: Most pieces that it may have.
    """
    ids = ids or T5_IDS
    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4),
        model_writer=written,
        vocab_size=size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name=rule,
        num_threads=1,
        minloglevel=2,
        **ids,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(written.getvalue())
    names = RINNA_NAMES if ids is RINNA_IDS else {"eos_token": "</s>", "pad_token": "<pad>"}
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "do_lower_case": True, **names}
    for name, content in (("special_tokens_map", names), ("tokenizer_config", config)):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder
