"""Which hints can be made of a picture, and what can be chosen about each. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ldm.errors import UserError
from ldm.settings.option import (
    MAX_SEED,
    REQUIRED,
    Settings,
    device_option,
    max_pixels_option,
    one_of,
    option,
    options_of,
)


@dataclass(frozen=True)
class HintKind:
    """A kind of hint.

    Attributes:
        summary: What it shows.
        address: The function that makes it: an RGB picture, then the options by name.
        defaults: Its options and their defaults; None has to be given, see ``optional``.
        optional: Options that may stay None.
    """

    summary: str
    address: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    optional: tuple[str, ...] = ()


_LOADED = {"model": None, "device": "auto"}
HINTS = {
    "canny": HintKind("thin edges", "ldm.hints.canny.canny", {"low": 100.0, "high": 200.0}),
    "softedge": HintKind("soft edges", "ldm.hints.lines.softedge", {"sigma": 1.5}),
    "scribble": HintKind(
        "a drawing by a thick pen",
        "ldm.hints.lines.scribble",
        {"sigma": 2.0, "threshold": 90.0, "width": 3},
    ),
    "lineart": HintKind(
        "what is darker than around it", "ldm.hints.lines.lineart", {"sigma": 6.0, "threshold": 8.0}
    ),
    "lineart_anime": HintKind(
        "the same, thin and even", "ldm.hints.lines.lineart_anime", {"sigma": 1.0, "threshold": 3.0}
    ),
    "tile": HintKind("the picture without detail", "ldm.hints.tones.tile", {"factor": 4.0}),
    "blur": HintKind("the picture blurred", "ldm.hints.tones.blur", {"sigma": 6.0}),
    "invert": HintKind("a drawing with black and white changed", "ldm.hints.tones.invert"),
    "grey": HintKind("brightness without colour", "ldm.hints.tones.grey"),
    "threshold": HintKind(
        "what is brighter, in white", "ldm.hints.tones.threshold", {"threshold": 128.0}
    ),
    "shuffle": HintKind(
        "colours without places", "ldm.hints.shuffle.shuffle", {"seed": 0, "grain": 256}
    ),
    "segmentation": HintKind(
        "regions", "ldm.hints.segments.segmentation", {"colours": 8, "sigma": 1.5}
    ),
    "inpaint": HintKind(
        "the picture without what is to be painted", "ldm.hints.masked.inpaint", {"mask": None}
    ),
    "normal": HintKind(
        "where surfaces face, of a depth picture or by a depth model",
        "ldm.hints.normals.normal",
        {"sigma": 1.0, "relief": 1.0, **_LOADED},
        optional=("model",),
    ),
    "depth": HintKind("near in white, far in black", "ldm.hints.learned.depth", _LOADED),
    "hed": HintKind("soft edges by a network", "ldm.hints.learned.hed", _LOADED),
    "openpose": HintKind("limbs of people", "ldm.hints.learned.openpose", _LOADED),
}
"""Every kind by its name."""


@dataclass(frozen=True, kw_only=True)
class HintOptions(Settings):
    """The options of all kinds; None is the kind's own default."""

    low: float | None = option(
        None,
        "canny: edges below this strength end",
        float,
        group="kind",
        minimum=0.0,
        maximum=4096.0,
    )
    high: float | None = option(
        None,
        "canny: edges above this strength begin",
        float,
        group="kind",
        minimum=0.0,
        maximum=4096.0,
    )
    sigma: float | None = option(
        None, "width of the blur, in pixels", float, group="kind", minimum=0.3, maximum=100.0
    )
    threshold: float | None = option(
        None, "what is weaker is left out", float, group="kind", minimum=0.0, maximum=255.0
    )
    width: int | None = option(
        None, "width of lines, in pixels", int, group="kind", minimum=1, maximum=31
    )
    factor: float | None = option(
        None,
        "tile: how many times smaller the detail is",
        float,
        group="kind",
        minimum=1.0,
        maximum=64.0,
    )
    seed: int | None = option(
        None, "shuffle: the seed", int, group="kind", minimum=0, maximum=MAX_SEED
    )
    grain: int | None = option(
        None,
        "shuffle: about how far things move, in pixels",
        int,
        group="kind",
        minimum=1,
        maximum=4096,
    )
    colours: int | None = option(
        None, "segmentation: the most regions' colours", int, group="kind", minimum=1, maximum=64
    )
    relief: float | None = option(
        None, "normal: how steep the slopes are", float, group="kind", minimum=0.01, maximum=100.0
    )
    mask: str | None = option(
        None, "inpaint: the part to paint, in white", str, group="kind", metavar="FILE"
    )
    model: str | None = option(
        None, "depth, hed, openpose: the folder of the network", str, group="kind", metavar="FOLDER"
    )

    def given(self) -> dict[str, Any]:
        """Return the options that are not None."""
        values = {each.name: getattr(self, each.name) for each in options_of(HintOptions)}
        return {name: value for name, value in values.items() if value is not None}


def check_kind(kind: str) -> HintKind:
    """Return a kind of hint by its name.

    Raises:
        UserError: There is none of that name.
    """
    if kind not in HINTS:
        raise UserError(f"hint {kind!r} was given; expected {one_of(HINTS)}; choose one")
    return HINTS[kind]


def complete_options(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a kind of hint: those given, checked, and the defaults of the others.

    Values that are no numbers or texts, such as a mask in memory, are passed on as they are.

    Raises:
        UserError: The kind has no such option, one is out of range, or one is missing.
    """
    known = check_kind(kind)
    if unknown := [name for name in given if name not in known.defaults]:
        its = f"it has {one_of(known.defaults, 'and')}" if known.defaults else "it has none"
        raise UserError(f"hint {kind} has no option {unknown[0]}; {its}; leave it out")
    typed = (str, int, float, bool)
    HintOptions(
        **{k: v for k, v in given.items() if k != "device" and isinstance(v, typed)}
    ).validate()
    options = {**known.defaults, **{k: v for k, v in given.items() if v is not None}}
    for name, value in options.items():
        if value is None and name not in known.optional:
            made = next(each for each in options_of(HintOptions) if each.name == name)
            raise UserError(
                f"hint {kind} needs {name}; {made.expected}; add {made.flag} {made.metavar}"
            )
    return options


@dataclass(frozen=True, kw_only=True)
class HintProgramSettings(HintOptions):
    """Settings of ``scripts/hint.py``."""

    program: ClassVar[str] = "hint"
    groups: ClassVar[Mapping[str, str]] = {"kind": "options of some kinds"}

    image: str = option(REQUIRED, "the picture", str, positional=True, metavar="FILE")
    kind: str = option(REQUIRED, f"what to show: {one_of(HINTS)}", str, metavar="KIND")
    out: str = option(
        REQUIRED,
        "the file to write",
        str,
        metavar="FILE",
        pattern=r"(?i).+\.(png|jpe?g)",
        words="a file name that ends in .png or .jpg",
    )
    device: str = device_option()
    max_pixels: int = max_pixels_option()

    def validate(self) -> None:
        """Check every value.

        Raises:
            UserError: One is out of range, or does not belong to the kind of hint.
        """
        super().validate()
        complete_options(self.kind, self.given())

    def options(self) -> dict[str, Any]:
        """Return the options for ``make_hint``."""
        takes_device = "device" in check_kind(self.kind).defaults
        return {**self.given(), **({"device": self.device} if takes_device else {})}
