"""How a mask of a picture is made, and what can be chosen about it. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.settings.option import (
    REQUIRED,
    Settings,
    device_option,
    max_pixels_option,
    one_of,
    option,
)

PATH_ONLY = "-"
"""As ``--out``: the usual place, and nothing but its path on standard output."""
_THING = ("box", "model")


class MaskKind(NamedTuple):
    """A kind of mask.

    Attributes:
        summary: What it marks.
        takes: Its options.
        needs: Those of which one at least has to be given.
    """

    summary: str
    takes: tuple[str, ...]
    needs: tuple[str, ...] = ()


MASKS: Mapping[str, MaskKind] = {
    "words": MaskKind("what words name, by CLIPSeg", ("words", "model", "threshold"), ("words",)),
    "subject": MaskKind("what the picture is of, by an ONNX file or GrabCut", _THING),
    "background": MaskKind("all but that", _THING),
    "colour": MaskKind("what has a colour", ("colour", "at", "tolerance"), ("colour", "at")),
}
"""Every kind by its name."""


@dataclass(frozen=True, kw_only=True)
class MaskOptions(Settings):
    """What can be chosen about a mask; None is the kind's own default."""

    groups: ClassVar[Mapping[str, str]] = {
        "kind": "options of some kinds",
        "edge": "what is done to the mask then, in this order",
    }

    kind: str = option(
        REQUIRED,
        "what to mark: " + "; ".join(f"{name}, {each.summary}" for name, each in MASKS.items()),
        str,
        choices=MASKS,
    )
    words: str | None = option(
        None,
        "words: what to mark; several things are separated by commas",
        str,
        metavar="TEXT",
        group="kind",
    )
    model: str | None = option(
        None,
        "words: the folder of CLIPSeg; subject, background: the ONNX file of U2-Net, IS-Net or "
        "BiRefNet, as rembg has them",
        str,
        metavar="PATH",
        shown="words: required; subject, background: none, which takes GrabCut",
        group="kind",
    )
    threshold: float | None = option(
        None,
        "words: how sure the network must be",
        float,
        minimum=0.0,
        maximum=1.0,
        shown="0.4",
        group="kind",
    )
    box: str | None = option(
        None,
        "subject, background: where the thing is, for GrabCut: fractions of the picture's sides",
        str,
        metavar="LEFT,TOP,RIGHT,BOTTOM",
        shown="all but a margin of 0.04",
        group="kind",
    )
    colour: str | None = option(
        None, "colour: its name, or #rrggbb", str, metavar="COLOUR", group="kind"
    )
    at: str | None = option(
        None, "colour: in place of it, a pixel that has it", str, metavar="X,Y", group="kind"
    )
    tolerance: float | None = option(
        None,
        "colour: how far others may be from it, in CIE Lab: 2 is just seen, 100 is black to white",
        float,
        minimum=0.0,
        maximum=300.0,
        shown="20",
        group="kind",
    )
    largest: bool = option(False, "keep the largest part alone", group="edge")
    invert: bool = option(False, "mark what is not marked", group="edge")
    grow: int = option(
        0,
        "make the marked parts wider by so many pixels on every side; below 0, narrower",
        minimum=-1000,
        maximum=1000,
        group="edge",
    )
    feather: float = option(
        0.0,
        "soften the edge: the blur's width in pixels",
        minimum=0.0,
        maximum=1000.0,
        group="edge",
    )

    def validate(self) -> None:
        """Check every value, and that each belongs to the kind of mask.

        Raises:
            UserError: One is out of range, missing, or without effect.
        """
        super().validate()
        kind = MASKS[self.kind]
        every = {name: None for each in MASKS.values() for name in each.takes}
        for name in every:
            if getattr(self, name) is not None and name not in kind.takes:
                raise UserError(
                    f"--{name} was given with --kind {self.kind}, which does not have it; expected "
                    f"{one_of([f'--{each}' for each in kind.takes])}; leave it out"
                )
        given = [f"--{name}" for name in kind.needs if getattr(self, name) is not None]
        if kind.needs and len(given) != 1:
            flags = one_of([f"--{name}" for name in kind.needs])
            what = f"with {one_of(given, 'and')}" if given else "alone"
            raise UserError(
                f"--kind {self.kind} was given {what}; expected {flags}; "
                f"{'leave one out' if given else 'add it'}"
            )
        if self.kind == "words" and self.model is None:
            raise UserError(
                "--kind words was given without --model; expected the folder of CLIPSeg; add "
                "--model FOLDER"
            )
        if self.model is not None and self.box is not None:
            raise UserError(
                f"--box was given with --model {self.model}, which needs none; expected one of "
                "them; leave one out"
            )
        self.options()

    def options(self) -> dict[str, Any]:
        """Return the kind's options as its function takes them.

        Raises:
            UserError: One is malformed.
        """
        if self.kind == "words":
            words = [part.strip() for part in (self.words or "").split(",") if part.strip()]
            if not words:
                raise UserError("--words is empty; expected what to mark, such as shirt; add it")
            sure = 0.4 if self.threshold is None else self.threshold
            return {"words": words, "model": self.model, "threshold": sure}
        if self.kind == "colour":
            at = None if self.at is None else _pixel(self.at)
            far = 20.0 if self.tolerance is None else self.tolerance
            return {"colour": self.colour, "at": at, "tolerance": far}
        box = self.box and tuple(_numbers("--box", self.box, 4, "LEFT,TOP,RIGHT,BOTTOM"))
        return {"model": self.model, "box": box}

    def edge(self) -> dict[str, Any]:
        """Return what is done to the mask then."""
        return {name: getattr(self, name) for name in ("largest", "invert", "grow", "feather")}


def _numbers(flag: str, text: str, count: int, form: str) -> list[float]:
    parts = text.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise UserError(
            f"{flag} {quoted(text)} was given; expected {form}: {count} numbers; change it"
        )
    return numbers


def _pixel(text: str) -> tuple[int, ...]:
    numbers = _numbers("--at", text, 2, "X,Y")
    if not all(number.is_integer() for number in numbers):
        raise UserError(f"--at {quoted(text)} was given; expected X,Y: whole pixels; change it")
    return tuple(map(int, numbers))


@dataclass(frozen=True, kw_only=True)
class MaskProgramSettings(MaskOptions):
    """Settings of ``scripts/mask.py``."""

    program: ClassVar[str] = "mask"

    images: tuple[str, ...] = option(
        REQUIRED, "the pictures", str, positional=True, several="+", metavar="FILE"
    )
    out: str | None = option(
        None,
        f"the file to write; {PATH_ONLY} writes to the usual place and prints nothing but the "
        "path, for other programs",
        str,
        metavar="FILE",
        pattern=rf"(?i).+\.png|{PATH_ONLY}",
        words=f"a file name that ends in .png, or {PATH_ONLY}",
        shown="beside each picture, as NAME_mask.png, where scripts/inpaint.py --indir looks",
    )
    max_pixels: int = max_pixels_option()
    device: str = device_option()

    def validate(self) -> None:
        """Check as the base does, the device, and that no file is to hold several masks."""
        super().validate()
        if self.model is None and self.device not in ("auto", "cpu"):
            raise UserError(
                f"--device {self.device} was given with --kind {self.kind} and no --model; "
                "expected cpu: colours and GrabCut are arithmetic of the processor; leave it out"
            )
        if len(self.images) > 1 and self.out not in (None, PATH_ONLY):
            raise UserError(
                f"--out {self.out} was given for {len(self.images)} pictures; expected one; leave "
                "it out, and each mask is written beside its picture"
            )
