"""What a user can choose about drawing twice: small first, then enlarged and redrawn. No torch.

    --hires FACTOR            how many times larger
    --hires_upscaler          how the small picture is enlarged
    --hires_strength          how much of it is drawn anew
    --hires_steps             of the second walk

The names in pictures are those of AUTOMATIC1111's "hires fix".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ldm.settings.conventions import Conventions
from ldm.settings.option import option

LANCZOS = "lanczos"
LATENT_MODES: Mapping[str, Mapping[str, Any]] = {
    "latent": {"mode": "bilinear"},
    "latent-antialiased": {"mode": "bilinear", "antialias": True},
    "latent-bicubic": {"mode": "bicubic"},
    "latent-bicubic-antialiased": {"mode": "bicubic", "antialias": True},
    "latent-nearest": {"mode": "nearest"},
    "latent-nearest-exact": {"mode": "nearest-exact"},
}
"""Ways to enlarge latents, as ``torch.nn.functional.interpolate`` takes them."""
LABELS: Mapping[str, str] = {
    "latent": "Latent",
    "latent-antialiased": "Latent (antialiased)",
    "latent-bicubic": "Latent (bicubic)",
    "latent-bicubic-antialiased": "Latent (bicubic antialiased)",
    "latent-nearest": "Latent (nearest)",
    "latent-nearest-exact": "Latent (nearest-exact)",
    LANCZOS: "Lanczos",
}
"""What pictures call them."""
THEIR_NETWORKS: Mapping[str, str] = {
    "R-ESRGAN 4x+": "RealESRGAN_x4plus",
    "R-ESRGAN 4x+ Anime6B": "RealESRGAN_x4plus_anime_6B",
    "R-ESRGAN 2x+": "RealESRGAN_x2plus",
}
"""AUTOMATIC1111's names of networks, and those of their files."""
LARGEST_HIRES = 16.0


@dataclass(frozen=True, kw_only=True)
class HiresSettings(Conventions):
    """Ways to draw a picture twice."""

    hires: float | None = option(
        None,
        "draw twice: small, then enlarged so many times and redrawn by image-to-image, for large "
        "pictures without objects that appear more than once",
        float,
        minimum=1.0,
        maximum=LARGEST_HIRES,
        shown="off",
        infotext="Hires upscale",
    )
    hires_steps: int | None = option(
        None,
        "sampling steps of the second walk; its strength takes a part of them",
        int,
        minimum=1,
        shown="as many as --ddim_steps",
        infotext="Hires steps",
    )
    hires_upscaler: str = option(
        "latent",
        "how the first picture is enlarged: latent (also -antialiased, -bicubic, "
        "-bicubic-antialiased, -nearest, -nearest-exact) enlarges its latent, which needs a "
        "strength of 0.5 or more to become sharp; lanczos its pixels; or a network's file, or its "
        "name in models/upscalers",
        metavar="FILE",
        infotext="Hires upscaler",
    )
    hires_strength: float = option(
        0.7,
        "how much of the enlarged picture the second walk draws anew: 0 keeps it, 1 starts from "
        "noise",
        minimum=0.0,
        maximum=1.0,
        infotext="Denoising strength",
    )

    @property
    def hires_network(self) -> str | None:
        """The network that enlarges the first picture, as it was named."""
        return None if self.hires is None or self.hires_upscaler in LABELS else self.hires_upscaler

    @property
    def unrecorded(self) -> Collection[str]:
        """Settings that a picture need not record: those of a second walk where there is none."""
        return (*super().unrecorded, *(() if self.hires is not None else HIRES))

    def notices(self, prompts: Sequence[str] = ()) -> list[str]:
        """List settings without effect, as the base does."""
        found = super().notices(prompts)
        if self.hires is None:
            given = {name: getattr(self, name) for name in HIRES[1:]}
            changed = {n: v for n, v in given.items() if v != getattr(HiresSettings, n)}
            found += [f"--{n} {v} has no effect without --hires" for n, v in changed.items()]
        elif self.hires_walk_steps == 0:
            found.append(
                f"--hires_strength {self.hires_strength:g} leaves no steps to take: pictures are "
                "enlarged, and nothing is redrawn"
            )
        return found

    @property
    def hires_walk_steps(self) -> int:
        """How many steps the second walk takes of those that are laid out."""
        return int(self.hires_strength * (self.hires_steps or self.ddim_steps))

    def final_size(self, size: tuple[int, int], multiple: int) -> tuple[int, int]:
        """Return the height and width of pictures that are first drawn at ``size``, in pixels."""
        if self.hires is None:
            return size
        height, width = (max(1, round(side * self.hires / multiple)) * multiple for side in size)
        return height, width


HIRES = ("hires", "hires_steps", "hires_upscaler", "hires_strength")
"""The settings of a second walk; the first turns it on."""


@dataclass(frozen=True, kw_only=True)
class NoHires:
    """For settings that are text-to-image's but draw once: these are no options there."""

    hires: None = None
    hires_steps: None = None
    hires_upscaler: str = "latent"
    hires_strength: float = 0.7


def upscaler_label(name: str) -> str:
    """Return what pictures call a way to enlarge; of a file, its name without its ending."""
    if name in LABELS:
        return LABELS[name]
    last = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, ending = last.rpartition(".")
    return stem if dot and ending.isalnum() and not ending.isdigit() else last


def upscaler_named(label: str) -> str:
    """Return the way to enlarge that a picture names: the reverse of ``upscaler_label``."""
    own = {text.casefold(): name for name, text in LABELS.items()}
    return own.get(label.casefold(), THEIR_NETWORKS.get(label, label))
