"""Find each layer's alpha: beside its tensors, in the file's header, or in peft's configuration.

A change is multiplied by alpha / rank, or by alpha / sqrt(rank) where peft's ``use_rslora`` says
so (arXiv:2312.03732). Without an alpha it is the rank.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldm.adapters.lora.places import flattened
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import is_file

HEADER = "lora_adapter_metadata"
CONFIG = "adapter_config.json"
PARTS = {"text_encoder": ("text_encoder_", "lora_te"), "unet": ("unet_", "lora_unet_", "")}


class Alphas:
    """The alphas of one file.

    Args:
        path: The file; ``adapter_config.json`` beside an ``adapter_model`` is read too.
        metadata: The file's header.

    Raises:
        UserError: A header or a configuration that is no JSON object.
    """

    def __init__(self, path: Path, metadata: Mapping[str, str]) -> None:
        self._path, self._config = path, {}
        beside = path.with_name(CONFIG)
        if HEADER in metadata:
            self._config = self._parse(metadata[HEADER], "header")
        elif path.stem == "adapter_model" and is_file(beside):
            text = beside.read_text(encoding="utf-8", errors="replace")
            self._config = {f"unet.{k}": v for k, v in self._parse(text, CONFIG).items()}

    def _parse(self, text: str, where: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise UserError(
                f"LoRA {str(self._path)!r}: its {where} is no JSON object; expected peft's "
                "configuration; get it again from where it came"
            )
        return found

    def of(self, stem: str, rank: int, given: float | None) -> tuple[float, float]:
        """Return a layer's alpha, and what its change is multiplied by.

        Args:
            stem: The layer's name in the file.
            rank: Its rank.
            given: The alpha beside its tensors, if any.

        Raises:
            UserError: The configuration's is no number.
        """
        name = flattened(stem)
        starts = next((p for p, s in PARTS.items() if name.startswith(s)), "unet")
        if given is None:
            given = self._number(self._pattern(starts, stem))
        alpha = float(rank) if given is None else given
        stretched = self._config.get(f"{starts}.use_rslora") is True
        return alpha, alpha / (math.sqrt(rank) if stretched else rank)

    def _pattern(self, part: str, stem: str) -> Any:
        patterns = self._config.get(f"{part}.alpha_pattern")
        for name, value in patterns.items() if isinstance(patterns, dict) else ():
            if stem == name or stem.endswith(f".{name.removeprefix('^')}"):
                return value
        return self._config.get(f"{part}.lora_alpha")

    def _number(self, value: Any) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e9 < value < 1e9:
            raise UserError(
                f"LoRA {str(self._path)!r}: its alpha is {quoted(value)}; expected a number; get "
                "it again from where it came"
            )
        return float(value)
