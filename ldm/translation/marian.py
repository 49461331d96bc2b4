"""A MarianMT model in a folder: to English by transformers, the same every time.

Any folder that transformers saved such a model and its tokenizer to will do, for example a copy of
Helsinki-NLP/opus-mt-ja-en or of opus-mt-zh-en; the tokenizer's file says what it reads.
Nothing is downloaded, and weights are read without unpickling them.
"""

from __future__ import annotations

import json
import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from ldm.errors import UserError
from ldm.paths import ERRORS, first_file, is_file, is_folder

BEAMS = 4
"""Beam search is deterministic; the number is fixed, as another one gives other sentences."""
LONGEST = 128  # tokens of a translated phrase
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_EXPECTED = (
    "expected a folder of a MarianMT model from Japanese or Chinese to English, as transformers "
    "saves"
)
_CODES = {**dict.fromkeys(("ja", "jpn", "jap"), "ja"), **dict.fromkeys(("zh", "zho", "cmn"), "zh")}


class Marian:
    """Translates phrases on the CPU.

    Args:
        folder: The model's folder.

    Raises:
        UserError: There is no such model, a library is missing, or it cannot be loaded.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.tokenizer, self.model = _load(self.folder)
        self.longest = min(LONGEST, self.model.config.max_position_embeddings - 2)

    def __call__(self, text: str) -> str:
        """Return the English of a phrase."""
        import torch

        rows = self.tokenizer([text], return_tensors="pt", truncation=True)
        with torch.inference_mode():
            made = self.model.generate(
                **rows, num_beams=BEAMS, do_sample=False, max_new_tokens=self.longest
            )
        return self.tokenizer.decode(made[0], skip_special_tokens=True)


@cache
def marian(folder: str) -> Marian:
    """Return the model of a folder, which stays loaded."""
    return Marian(folder)


def check_folder(folder: str | Path) -> None:
    """Check without loading it that a folder could be a MarianMT model.

    Raises:
        UserError: It could not.
    """
    path = Path(folder)
    if not is_folder(path):
        raise UserError(f"--translator {path} is no folder; {_EXPECTED}; check the path")
    missing = [name for name in ("config.json", "source.spm") if not is_file(path / name)]
    if missing or first_file(path / name for name in _WEIGHTS) is None:
        lacks = " or ".join(missing or _WEIGHTS)
        raise UserError(f"--translator {path} holds no {lacks}; {_EXPECTED}; check the path")


def source_language(folder: str | Path) -> str:
    """Return the code of the language that a folder's model reads; Japanese if it tells none.

    Raises:
        UserError: It reads neither Japanese nor Chinese, or its tokenizer's file is damaged.
    """
    path = Path(folder) / "tokenizer_config.json"
    if not is_file(path):
        return "ja"
    try:
        told = json.loads(path.read_text(encoding="utf-8")).get("source_lang") or "ja"
        code = _CODES.get(re.split("[-_]", told)[0].lower())
    except (*ERRORS, ValueError, AttributeError, TypeError) as error:
        raise _unusable(Path(folder), error) from error
    if code is None:
        raise UserError(
            f"--translator {folder} reads {told!r}, as its tokenizer_config.json says; {_EXPECTED};"
            " give another"
        )
    return code


def _load(path: Path) -> tuple[Any, Any]:
    check_folder(path)
    try:
        from transformers import MarianConfig, MarianMTModel, MarianTokenizer

        with warnings.catch_warnings():  # sacremoses only evens out punctuation
            warnings.simplefilter("ignore")
            tokenizer = MarianTokenizer.from_pretrained(str(path), local_files_only=True)
        config = MarianConfig.from_pretrained(str(path), local_files_only=True)
    except ImportError as error:
        raise UserError(
            f"--translator {path} was given, but a library that it needs is missing "
            f"({_first_line(error)}); expected transformers and sentencepiece; "
            'run pip install -e ".[japanese]"'
        ) from error
    except Exception as error:  # the libraries raise anything for a damaged file
        raise _unusable(path, error) from error
    return tokenizer, _model(path, MarianMTModel, config)


def _model(path: Path, cls: Any, config: Any) -> Any:
    """Build the network and give it the folder's weights."""
    from ldm.checkpoint.io import read_checkpoint

    weights = read_checkpoint(first_file(path / name for name in _WEIGHTS))
    try:
        model = cls(config).eval()
        found = model.load_state_dict(dict(weights.tensors), strict=False)
        model.tie_weights()
        if is_file(path / "generation_config.json"):  # names tokens that may not be generated
            own = type(model.generation_config)
            model.generation_config = own.from_pretrained(str(path), local_files_only=True)
        model.generation_config.max_length = None
    except Exception as error:
        raise _unusable(path, error) from error
    tied = ("embed_tokens.weight", "embed_positions.weight", "lm_head.weight")
    if missing := [key for key in found.missing_keys if not key.endswith(tied)]:
        raise UserError(
            f"--translator {path} lacks {len(missing)} weights, the first is {missing[0]}; "
            f"{_EXPECTED}; fetch it again"
        )
    return model


def _unusable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"--translator {path} cannot be loaded ({_first_line(error)}); {_EXPECTED}; fetch it again"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
