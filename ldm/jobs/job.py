"""One picture of a run: what it is drawn from, and the digest that tells whether it has changed.

Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from ldm.settings.adapters import read_control, read_lora
from ldm.settings.generation import GenerationSettings, Img2ImgSettings, Txt2ImgSettings
from ldm.settings.inpaint import InpaintSettings
from ldm.settings.speed import SpeedSettings

ONE_PICTURE = {"n_iter": 1, "n_samples": 1, "seed_mode": "per-image"}
_HOW = frozenset(each.name for each in fields(SpeedSettings))
_FILES = frozenset(
    (
        *("init_img", "mask", "lora", "embedding", "control", "decoder"),
        *("glossary", "translator", "image_encoder", "restore_faces", "face_detector"),
    )
)
"""Settings that name files, which count by ``Job.files`` instead."""
NOTES = frozenset(("template", "negative_template"))
"""What the picture only tells of: its prompts were drawn from them, and count themselves."""


@dataclass(frozen=True)
class Job:
    """One picture.

    Attributes:
        number: Which of the run, in the order of the file; it names the picture.
        line: The line of the file, from 1.
        values: Settings that are not their schema's defaults, by field name.
        files: SHA-256 of each file that the picture is drawn from, by what it is for; or what
            stands in for one.
        model: What the model is known by: its name and its hashes.
    """

    number: int
    line: int
    values: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    model: str = ""

    @property
    def settings(self) -> GenerationSettings:
        """What the picture is drawn with: a run of this one picture."""
        return schema_of(self.values)(**self.values, **ONE_PICTURE)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that the picture depends on.

        Files count by what they hold, not by their names; where and how fast it is computed
        (``device``, ``kernels``, ...) does not count. A setting that a later version adds changes
        no digest as long as it has its default.
        """
        values = {k: v for k, v in self.values.items() if k not in _HOW | _FILES | NOTES}
        # Their files count as such; scales and windows count here.
        values["lora"] = [_scales(text) for text in self.values.get("lora", ())]
        values["control"] = [_without_files(text) for text in self.values.get("control", ())]
        whole = {
            "program": schema_of(self.values).program,
            "values": values,
            "files": dict(self.files),
            "model": self.model,
        }
        text = json.dumps(whole, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def schema_of(values: Mapping[str, Any]) -> type[GenerationSettings]:
    """Return the settings class that a line is of: text alone, a picture, a picture and a mask.

    What is drawn around a picture needs no mask.

    Example:
        >>> schema_of({"prompt": "a cat"}).program, schema_of({"init_img": "a.png"}).program
        ('txt2img', 'img2img')
    """
    if values.get("mask") is not None or values.get("outpaint") is not None:
        return InpaintSettings
    return Txt2ImgSettings if values.get("init_img") is None else Img2ImgSettings


def _scales(text: str) -> list[float]:
    wish = read_lora(text)
    return [wish.unet, wish.text]


def _without_files(text: str) -> list[Any]:
    wish = read_control(text)
    return [wish.kind, wish.scale, wish.start, wish.end]
