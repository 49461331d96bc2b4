"""How many files of attention maps a run will write, how large, and whether that is too much.

Shapes: n samples of a prompt, h w sides of a map, L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from ldm.budgets import ATTENTION_MAPS
from ldm.errors import UserError
from ldm.modules.attention_control.moments import unet_of
from ldm.modules.attention_control.sites import Site, sites_of
from ldm.paths import PathLike, room_fault, writing_fault

HEADER = 128  # bytes of an npy file before its numbers


@dataclass(frozen=True, kw_only=True)
class MapPlan:
    """What a run will write of its maps; ``of`` makes it from a model.

    Means and panels, a few MB for each picture, come on top.

    Attributes:
        sites: The layers of cross-attention, with the sides of their maps.
        steps: Of one walk.
        n_samples: Pictures of each prompt in a batch.
        prompts: In a batch.
        batches: In the run.
        length: L.
        every: Steps from one that is written to the next.
        half: Whether numbers are float16.
    """

    sites: tuple[Site, ...]
    steps: int
    n_samples: int = 1
    prompts: int = 1
    batches: int = 1
    length: int = 77
    every: int = 1
    half: bool = False

    @classmethod
    def of(cls, model: Any, latent: tuple[int, int], **rest: Any) -> MapPlan:
        """Plan for a model.

        Args:
            model: A hub, or its UNet.
            latent: The latents' sides (h, w): the picture's divided by the model's factor.
            **rest: The plan's other fields.

        Raises:
            UserError: The model's attention cannot be controlled, or ``every`` is below 1.
        """
        require_every(rest.get("every", 1))
        found = (site for site in sites_of(unet_of(model) or model) if site.kind == "cross")
        sites = (replace(s, side=tuple(-(-side // s.rate) for side in latent)) for s in found)
        return cls(sites=tuple(sites), **rest)

    @property
    def files(self) -> int:
        """How many npy files."""
        written = -(-self.steps // self.every)
        return written * len(self.sites) * self.prompts * self.batches

    @property
    def bytes(self) -> int:
        """The size of all npy files, headers included."""
        numbers = sum(prod(site.side) for site in self.sites) * self.n_samples * self.length
        layers = max(len(self.sites), 1)
        each = numbers * (2 if self.half else 4) + layers * HEADER  # of a prompt's step
        return self.files // layers * each

    def sentence(self, folder: PathLike) -> str:
        """Say what will be written where."""
        steps = "every step" if self.every == 1 else f"one step in {self.every}"
        return (
            f"attention maps of {steps} go to {folder}: {self.files:,} files, "
            f"{_in_words(self.bytes)}"
        )

    def check(self, folder: PathLike) -> None:
        """Check that it is not too much, and that there is room for it.

        Raises:
            UserError: Above ``ldm.budgets.ATTENTION_MAPS``, with what would make it less; the
                disk has less room, or the folder cannot be written to.
        """
        if self.bytes > ATTENTION_MAPS:
            raise UserError(
                f"the attention maps of this run take {_in_words(self.bytes)}; expected at most "
                f"{_in_words(ATTENTION_MAPS)}; {self._advice()}"
            )
        if fault := writing_fault(folder):
            raise UserError(f"--save_attn_dir {folder} {fault}; give a folder that can be")
        if fault := room_fault(folder, self.bytes):
            raise UserError(
                f"--save_attn_dir {folder} {fault}; make room, write less (--every, --half), or "
                "give another place"
            )

    def _advice(self) -> str:
        ways = [f"{flags} ({_in_words(plan.bytes)})" for flags, plan in self._smaller()]
        if ways:
            return f"give {' or '.join(ways)}"
        least = replace(self, every=max(self.steps, 1), half=True)
        return (
            f"--every {least.every} --half still makes {_in_words(least.bytes)}: draw fewer or "
            "smaller pictures at a time"
        )

    def _smaller(self) -> Iterator[tuple[str, MapPlan]]:
        """Yield the flags that are enough, each with what would then be written."""
        if not self.half and (half := replace(self, half=True)).bytes <= ATTENTION_MAPS:
            kept = "" if self.every == 1 else f"--every {self.every} "
            yield f"{kept}--half", half
        for half in dict.fromkeys((self.half, True)):
            further = range(self.every + 1, self.steps + 1)
            plans = (replace(self, every=k, half=half) for k in further)
            fitting = next((plan for plan in plans if plan.bytes <= ATTENTION_MAPS), None)
            if fitting is not None:
                yield f"--every {fitting.every}{' --half' if half else ''}", fitting


def planned_bytes(
    model: Any,
    latent: tuple[int, int],
    steps: int,
    n_samples: int,
    prompts: int = 1,
    every: int = 1,
    half: bool = False,
) -> int:
    """Return how many bytes of npy files one batch makes; see ``MapPlan``."""
    fields = {"n_samples": n_samples, "prompts": prompts, "every": every, "half": half}
    return MapPlan.of(model, latent, steps=steps, **fields).bytes


def require_every(every: int) -> None:
    """Check a number of steps from one that is written to the next.

    Raises:
        UserError: It is below 1.
    """
    if every < 1:
        raise UserError(f"--every {every} was given; expected 1 or more; change it")


def _in_words(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
