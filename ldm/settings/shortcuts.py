"""What saves time or memory at the price of another picture: the flags and their texts. No torch.

    --reuse N[:BRANCH]              the deep blocks in every N-th call only
    --merge_tokens RATIO            self-attention over fewer tokens
    --guidance_interval START:END   guidance in a part of the steps only
    --freeu B1,B2,S1,S2             other weights of the second half's features
    --decoder FILE                  a small decoder in place of the model's own

None is on by default. docs/shortcuts.md says what each costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.settings.conventions import Conventions
from ldm.settings.option import option

GROUP = "shortcuts"
HEADING = "what saves time or changes how the model is asked, see docs/shortcuts.md"
UNSHORTENED: Mapping[str, object] = {
    "merge_tokens": 0,
    "guidance_rescale": 0,
    "zero_terminal_snr": False,
    "batch_cfg": "on",
}
"""Values at which these settings do nothing; pictures do not record them. Those of others: None."""
MOST_MERGED = 0.75
"""Of every 2x2 tokens one stays: arXiv:2303.17604, section 4.1."""


class Reuse(NamedTuple):
    """How features are reused: computed in every ``every``-th call, kept at a skip ``branch``."""

    every: int
    branch: int = 0


class FreeUScales(NamedTuple):
    """FreeU's four numbers: of the features at the two deepest levels, and of their skips."""

    b1: float
    b2: float
    s1: float
    s2: float


def read_reuse(text: str) -> Reuse:
    """Read a value of ``--reuse``.

    Raises:
        UserError: It is not one or two whole numbers.

    Example:
        >>> read_reuse("3"), read_reuse("5:2")
        (Reuse(every=3, branch=0), Reuse(every=5, branch=2))
    """
    parts = text.split(":")
    if len(parts) <= 2 and all(part.isdecimal() and len(part) < 5 for part in parts):
        wish = Reuse(*map(int, parts))
        if wish.every >= 1:
            return wish
    raise _wrong("--reuse", text, "N or N:BRANCH with whole numbers, N 1 or more, such as 3")


def read_interval(text: str) -> tuple[float, float]:
    """Read a value of ``--guidance_interval``: fractions of the walk, the first below the second.

    Raises:
        UserError: It is none.

    Example:
        >>> read_interval("0.2:0.8")
        (0.2, 0.8)
    """
    numbers = [_number(part) for part in text.split(":")]
    if len(numbers) == 2 and None not in numbers and 0.0 <= numbers[0] < numbers[1] <= 1.0:
        return numbers[0], numbers[1]
    raise _wrong(
        "--guidance_interval", text, "START:END, fractions of the steps from 0 to 1, as 0.2:0.8"
    )


def read_freeu(text: str) -> FreeUScales:
    """Read a value of ``--freeu``.

    Raises:
        UserError: It is not four numbers from 0 on.

    Example:
        >>> read_freeu("1.5,1.6,0.9,0.2").s1
        0.9
    """
    numbers = [_number(part) for part in text.split(",")]
    if len(numbers) == 4 and None not in numbers and min(numbers) >= 0.0:
        return FreeUScales(*numbers)
    raise _wrong(
        "--freeu", text, "B1,B2,S1,S2, four numbers from 0 on, as 1.5,1.6,0.9,0.2 for SD 1"
    )


@dataclass(frozen=True, kw_only=True)
class ShortcutSettings(Conventions):
    """Ways to save that change the picture; texts as they were typed."""

    reuse: str | None = option(
        None,
        "compute the UNet's deep blocks in every N-th call only and reuse their features in "
        "between (DeepCache); what is computed every time reaches down to skip BRANCH, 0 is the "
        "first",
        str,
        metavar="N[:BRANCH]",
        infotext="Feature reuse",
        group=GROUP,
    )
    merge_tokens: float = option(
        0.0,
        "the share of tokens that the largest self-attention leaves out, merged into similar ones "
        "(ToMe); 0 is none",
        minimum=0.0,
        maximum=MOST_MERGED,
        infotext="Token merging ratio",
        group=GROUP,
    )
    guidance_interval: str | None = option(
        None,
        "guide in this part of the steps only, as fractions such as 0.2:0.8; outside of it the "
        "model is asked for the prompt alone",
        str,
        metavar="START:END",
        infotext="Guidance interval",
        group=GROUP,
    )
    guidance_rescale: float = option(
        0.0,
        "how far guided predictions are brought back to the spread that the prompt's alone has; 0 "
        "leaves them, the paper takes 0.7",
        minimum=0.0,
        maximum=1.0,
        infotext="Guidance rescale",
        group=GROUP,
    )
    zero_terminal_snr: bool = option(
        False,
        "let the first step begin at pure noise, as the schedule's end is not: for models that "
        "predict v, with --sampler ddim and --spacing trailing",
        infotext="Zero terminal SNR",
        group=GROUP,
    )
    freeu: str | None = option(
        None,
        "scale the features of the two deepest levels on the way up, and the low frequencies of "
        "their skips (FreeU); its authors give 1.5,1.6,0.9,0.2 for SD 1",
        str,
        metavar="B1,B2,S1,S2",
        infotext="FreeU",
        group=GROUP,
    )
    decoder: str | None = option(
        None,
        "a small decoder that decodes in place of the model's own: the file taesd_decoder "
        "(.safetensors or .pth) or diffusers' folder of an AutoencoderTiny",
        str,
        metavar="FILE",
        group=GROUP,
    )
    batch_cfg: str = option(
        "on",
        "off asks the model for guidance's two rows one after the other: less memory, more time",
        choices=("on", "off"),
        infotext="Batch CFG",
        group=GROUP,
    )

    @property
    def is_shortened(self) -> bool:
        """Whether any of these is on."""
        texts = self.reuse, self.guidance_interval, self.freeu, self.decoder
        return any(text is not None for text in texts) or any(
            getattr(self, name) != value for name, value in UNSHORTENED.items()
        )

    def validate(self) -> None:
        """Check each value, the forms of these texts, and what they go with.

        Raises:
            UserError: One is malformed, or does not go with the sampler.
        """
        super().validate()
        if self.reuse is not None:
            read_reuse(self.reuse)
        if self.guidance_interval is not None:
            read_interval(self.guidance_interval)
        if self.freeu is not None:
            read_freeu(self.freeu)
        sampler, spacing = getattr(self, "sampler", ""), getattr(self, "spacing", "")
        if self.zero_terminal_snr and (sampler != "ddim" or spacing != "trailing"):
            raise UserError(
                f"--zero_terminal_snr was given with --sampler {sampler} and --spacing {spacing}; "
                "expected ddim, which can step from pure noise, and trailing, which begins there; "
                "add --sampler ddim --spacing trailing, or leave it out"
            )


def notices_on_shortcuts(settings: ShortcutSettings) -> list[str]:
    """List shortcuts that have no effect with the other settings, one sentence each."""
    found = []
    if getattr(settings, "scale", 0.0) == 1.0:
        given = {
            "--guidance_interval": settings.guidance_interval,
            "--guidance_rescale": settings.guidance_rescale or None,
            "--batch_cfg": None if settings.batch_cfg == "on" else settings.batch_cfg,
        }
        found += [
            f"{flag} {value} has no effect at --scale 1, which turns guidance off"
            for flag, value in given.items()
            if value is not None
        ]
    if settings.reuse is not None and read_reuse(settings.reuse).every == 1:
        found.append(f"--reuse {settings.reuse} has no effect: every call computes all blocks")
    return found


def _wrong(flag: str, text: str, expected: str) -> UserError:
    return UserError(f"{flag} {quoted(text)} was given; expected {expected}; change it")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
