"""What one run of a visitor may ask for: size, pictures, steps, prompt, time. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ldm.budgets import PROMPT_PARTS
from ldm.errors import UserError
from ldm.settings.generation import GenerationSettings
from ldm.settings.option import flag_of
from optimizedSD.web.page import ServerSettings

# The largest side, where the command line gives none: so many times the model's own, or this.
SIDES, LEAST_SIDE = 2, 256
TEXTS = ("prompt", "negative_prompt", "sprompt", "reweight", "blend")  # that a visitor writes
LARGEST_AT_ONCE = 4  # pictures of the largest size in one batch, or more of a smaller one


@dataclass(frozen=True)
class Limits:
    """The most that one run may ask for, and the most that waits or is uploaded.

    Attributes:
        side: Height and width of a picture, in pixels.
        pictures: Pictures of a run.
        steps: Sampling steps.
        prompt: Length of a prompt, in characters.
        seconds: Time that a run may draw.
        waiting: Runs that wait for the one that is drawn.
        upload: Bytes of one upload.
        where: What it is that has these limits, for messages.
    """

    side: int = LEAST_SIDE
    pictures: int = ServerSettings.max_pictures
    steps: int = ServerSettings.max_steps
    prompt: int = ServerSettings.max_prompt
    seconds: float = ServerSettings.max_seconds
    waiting: int = ServerSettings.max_waiting
    upload: int = ServerSettings.max_upload * 2**20
    where: str = "page"

    @classmethod
    def of(cls, server: Any, own_side: int, where: str = "page") -> Limits:
        """Return the limits that a command line asks for.

        Args:
            server: The command line: a ``ServerSettings``, or another one with these settings.
            own_side: The side that the model was made for, in pixels.
            where: What it is that has these limits.
        """
        return cls(
            side=server.max_side or max(SIDES * own_side, LEAST_SIDE),
            pictures=server.max_pictures,
            steps=server.max_steps,
            prompt=server.max_prompt,
            seconds=server.max_seconds,
            waiting=server.max_waiting,
            upload=server.max_upload * 2**20,
            where=where,
        )

    @property
    def sentence(self) -> str:
        """The limits in words, for the page."""
        return (
            f"Limits of this page: sides of {self.side} pixels, {self.pictures} pictures, "
            f"{self.steps} steps, {self.seconds:g} seconds for a run, {self.waiting} waiting runs; "
            f"prompts of {self.prompt} characters, uploads of {self.upload / 2**20:g} MB."
        )

    def check(self, settings: GenerationSettings) -> None:
        """Check what a run asks for, all but the size that follows from an init image.

        Raises:
            UserError: It is more than this page draws.
        """
        for name, most, flag in (
            ("H", self.side, "max_side"),
            ("W", self.side, "max_side"),
            ("ddim_steps", self.steps, "max_steps"),
            ("hires_steps", self.steps, "max_steps"),
            ("n_samples", self.pictures, "max_pictures"),
            ("n_iter", self.pictures, "max_pictures"),
        ):
            value = getattr(settings, name, None)
            if value is not None and value > most:
                raise self._too_much(f"{flag_of(settings, name)} {value}", most, flag)
        for margin in getattr(settings, "margins", ()):
            if margin > self.side:
                raise self._too_much(f"--outpaint {settings.outpaint}", self.side, "max_side")
        for name in TEXTS:
            length = len(getattr(settings, name, None) or "")
            if length > self.prompt:
                given = f"{flag_of(settings, name)} of {length} characters"
                raise self._too_much(given, self.prompt, "max_prompt")
        prompts = len(settings.drawn_prompts)
        if settings.n_samples * settings.n_iter * prompts > self.pictures:
            given = f"--n_samples {settings.n_samples} times --n_iter {settings.n_iter}"
            given += f" of {prompts} prompts" if prompts > 1 else ""
            raise self._too_much(given, self.pictures, "max_pictures")
        parts = _parts(settings)
        if parts > PROMPT_PARTS:
            raise UserError(
                f"--prompt with {parts} weights was given; expected at most {PROMPT_PARTS} on this "
                f"{self.where}; leave some out"
            )

    def check_size(self, settings: GenerationSettings, width: int, height: int) -> None:
        """Check the size of the pictures that a run draws, in pixels.

        Args:
            settings: The run's.
            width, height: Of the first walk where there are two: the second walk's follows.

        Raises:
            UserError: A side, or a batch of that size, is more than this page draws.
        """
        height, width = settings.final_size((height, width), 1)
        if max(width, height) > self.side:
            raise self._too_much(f"a picture of {width}x{height} pixels", self.side, "max_side")
        prompts = len(settings.drawn_prompts)
        if width * height * settings.n_samples * prompts > LARGEST_AT_ONCE * self.side**2:
            of_each = f" of {prompts} prompts," if prompts > 1 else " of"
            raise UserError(
                f"--n_samples {settings.n_samples}{of_each} {width}x{height} pixels was given; "
                f"expected at most {LARGEST_AT_ONCE} of {self.side}x{self.side} at once on this "
                f"{self.where}; give fewer, and more --n_iter"
            )

    def rows(self, width: int, height: int) -> int:
        """Return how many pictures of a size, in pixels, may be drawn at once."""
        return max(1, LARGEST_AT_ONCE * self.side**2 // (width * height))

    def _too_much(self, given: str, most: int, flag: str) -> UserError:
        # A page's visitors have no flags to look at.
        which = f", the --{flag} of this" if self.where != "page" else " on this"
        said = f"expected at most {most}{which} {self.where}"
        return UserError(f"{given} was given; {said}; give less")


def _parts(settings: GenerationSettings) -> int:
    """Return how many texts a prompt is encoded as; at most how many, where it is a template."""
    if settings.wildcards is None:
        return len(settings.mixture(settings.prompt))
    return 1 + settings.prompt.replace("::", "").count(":")
