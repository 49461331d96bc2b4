"""What is loaded on top of a model for a run: the flags, and what their texts say. No torch.

    --lora FILE[:unet[:text]]                         one scale is for both
    --embedding FILE
    --control KIND=FILE:IMAGE[:scale[:start[:end]]]
    --box "words:x0,y0,x1,y1"

Scales are taken off a text's end, so that a Windows path such as C:\\x.pt keeps its colon.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.settings.conventions import Conventions
from ldm.settings.option import option

GROUP = "adapters"
CONTROL_MODES = ("balanced", "prompt", "control", "guess")
PLAIN, REFERENCE, PICTURE, STYLE, GLIGEN = "hint", "reference", "ip", "style", "gligen"
NAMED_KINDS: Mapping[str, str] = {
    PLAIN: "the picture is shown to the network as it is",
    "t2i": "the same, for a T2I-Adapter",
    STYLE: "a T2I style adapter looks at it through --image_encoder",
    PICTURE: "an IP-Adapter looks at it",
    REFERENCE: "no file: the UNet itself looks at it",
    GLIGEN: "no picture: a GLIGEN file, for --box",
}
"""Kinds of control besides the hints that ``ldm.hints`` makes of a picture."""
THROUGH_ENCODER = (PICTURE, STYLE)
"""Those that may look through ``--image_encoder``."""
GLIGEN_END = 0.3
"""The share of the steps in which its authors let it act; later it costs more than it gives."""
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class LoraWish:
    """A LoRA that is wanted, by its file or name.

    Attributes:
        file: A path, or a name in models/lora.
        unet: How strongly it acts in the UNet.
        text: How strongly it acts in the text encoder.
    """

    file: str
    unet: float = 1.0
    text: float = 1.0

    def __str__(self) -> str:
        scales = [self.unet] if self.unet == self.text else [self.unet, self.text]
        return ":".join([self.file, *map(_number, scales)])


@dataclass(frozen=True)
class ControlWish:
    """A control that is wanted.

    Attributes:
        kind: What the picture is to the network: a kind of hint, or one of ``NAMED_KINDS``.
        file: A path, or a name in models/controlnet; empty for ``reference``.
        image: The picture's path; empty for ``gligen``.
        scale: How strongly it acts.
        start: From which fraction of the steps on.
        end: Up to which fraction.
    """

    kind: str
    file: str
    image: str
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __str__(self) -> str:
        files = ":".join(filter(None, (self.file, self.image)))
        return f"{self.kind}={files}:" + ":".join(map(_number, (self.scale, self.start, self.end)))


@dataclass(frozen=True)
class BoxWish:
    """Words and the box that they are to be in: left, top, right, bottom, 0 to 1."""

    words: str
    box: tuple[float, float, float, float]


def read_lora(text: str) -> LoraWish:
    r"""Read a value of ``--lora``.

    Raises:
        UserError: It names no file, or has too many scales, or one that is not finite.

    Example:
        >>> read_lora(r"C:\style.safetensors:0.8")
        LoraWish(file='C:\\style.safetensors', unet=0.8, text=0.8)
        >>> read_lora("ink:0.8:0")
        LoraWish(file='ink', unet=0.8, text=0.0)
    """
    file, scales = _without_numbers(text, most=2)
    if not file or _ends_in_a_number(file):
        raise _wrong("--lora", text, "FILE, FILE:scale or FILE:scale:text scale")
    unet = scales[0] if scales else 1.0
    return LoraWish(file, unet, scales[1] if len(scales) > 1 else unet)


def read_control(text: str) -> ControlWish:
    r"""Read a value of ``--control``.

    Raises:
        UserError: Its form or its window is none.

    Example:
        >>> wish = read_control(r"canny=C:\a.pth:D:\b.png:0.5")
        >>> wish.file, wish.image, wish.scale
        ('C:\\a.pth', 'D:\\b.png', 0.5)
    """
    kind, equals, rest = text.partition("=")
    if not equals:
        raise _wrong("--control", text, "KIND=FILE:IMAGE, such as canny=sd15_canny:photo.png")
    files, numbers = _without_numbers(rest, most=3, least=1 if kind in (REFERENCE, GLIGEN) else 2)
    parts, alone = _files(files), kind in (REFERENCE, GLIGEN)
    if alone and len(parts) == 1:
        parts = ["", *parts] if kind == REFERENCE else [*parts, ""]
    elif alone or len(parts) != 2:
        wanted = {REFERENCE: "IMAGE", GLIGEN: "FILE"}.get(kind, "FILE:IMAGE")
        raise _wrong("--control", text, f"{kind}={wanted}[:scale[:start[:end]]]")
    if kind == GLIGEN and len(numbers) < 3:
        numbers = [*numbers, *(1.0, 0.0, GLIGEN_END)[len(numbers) :]]
    wish = ControlWish(kind, *parts, *numbers)
    if not 0.0 <= wish.start <= wish.end <= 1.0:
        raise _wrong("--control", text, "a start and an end from 0 to 1, the start not above it")
    return wish


def read_box(text: str) -> BoxWish:
    """Read a value of ``--box``.

    Raises:
        UserError: It is not words and four numbers from 0 to 1 that enclose an area.

    Example:
        >>> read_box("a red apple:0.1,0.2,0.5,0.9")
        BoxWish(words='a red apple', box=(0.1, 0.2, 0.5, 0.9))
    """
    words, _, numbers = text.rpartition(":")
    found = [_float(each) for each in numbers.split(",")]
    if len(found) == 4 and all(each is not None and 0 <= each <= 1 for each in found):
        x0, y0, x1, y1 = found
        if words.strip() and x0 < x1 and y0 < y1:
            return BoxWish(words.strip(), (x0, y0, x1, y1))
    raise _wrong("--box", text, "words:x0,y0,x1,y1 with sides from 0 to 1, such as cat:0,0,0.5,1")


@dataclass(frozen=True, kw_only=True)
class AdapterSettings(Conventions):
    """What is loaded on top of the model; texts as they were typed."""

    lora: tuple[str, ...] = option(
        (),
        "a LoRA, by its path or its name in models/lora, with a scale or two, for the UNet and the "
        "text encoder: style.safetensors:0.8; may be given again (a prompt may also name one: "
        "<lora:style:0.8>)",
        str,
        several="again",
        metavar="FILE[:SCALE]",
        group=GROUP,
    )
    embedding: tuple[str, ...] = option(
        (),
        "a textual inversion, by its path or its name in models/embeddings; its name in a prompt "
        "calls it; may be given again",
        str,
        several="again",
        metavar="FILE",
        group=GROUP,
    )
    control: tuple[str, ...] = option(
        (),
        "a ControlNet or other network and the picture that it looks at, with scale, start and "
        "end: canny=FILE:photo.png:0.8:0:0.6; KIND is a hint that is made of the picture, or hint "
        "for a picture that is one; may be given again",
        str,
        several="again",
        metavar="KIND=FILE:IMAGE",
        group=GROUP,
    )
    control_mode: str = option(
        "balanced",
        "whose word counts more with --control: as they are (balanced), the prompt's, or the "
        "control's; guess is control under the name of ControlNet's own programs",
        choices=CONTROL_MODES,
        group=GROUP,
    )
    hint_only: bool = option(
        False,
        "write what each --control is shown, and draw nothing: no model is loaded",
        group=GROUP,
    )
    image_encoder: str | None = option(
        None,
        "the folder of the CLIP image encoder that --control ip=... and style=... look through",
        str,
        metavar="FOLDER",
        group=GROUP,
    )
    box: tuple[str, ...] = option(
        (),
        "words and the box that they are to be in, for --control gligen=FILE: "
        "'a red apple:0.1,0.2,0.5,0.9'; may be given again",
        str,
        several="again",
        metavar="WORDS:X0,Y0,X1,Y1",
        group=GROUP,
    )

    @property
    def reads_grammar(self) -> bool:
        """Whether prompts are in AUTOMATIC1111's grammar, where embeddings go by their names."""
        return getattr(self, "prompt_syntax", "") == "a1111"

    def may_adapt(self, prompts: Iterable[str]) -> bool:
        """Return whether these settings or prompts may name anything that acts on the model."""
        named = self.lora or self.embedding or self.control or self.reads_grammar
        return bool(named) or any(map(self.may_name_loras, prompts))

    def may_name_loras(self, prompt: str) -> bool:
        """Return whether a prompt may name LoRAs: by tags, or as compel does."""
        compel = getattr(self, "prompt_syntax", "") == "compel"
        return self.takes_tags and ("<" in prompt or (compel and "Lora" in prompt))

    @property
    def lora_wishes(self) -> list[LoraWish]:
        """What ``lora`` says."""
        return [read_lora(text) for text in self.lora]

    @property
    def control_wishes(self) -> list[ControlWish]:
        """What ``control`` says."""
        return [read_control(text) for text in self.control]

    @property
    def box_wishes(self) -> list[BoxWish]:
        """What ``box`` says."""
        return [read_box(text) for text in self.box]

    def validate(self) -> None:
        """Check each value, and the forms of these texts.

        Raises:
            UserError: One is malformed, or lacks what it needs.
        """
        super().validate()
        controls, _, boxes = self.control_wishes, self.lora_wishes, self.box_wishes
        grounded = any(wish.kind == GLIGEN for wish in controls)
        if self.hint_only and not any(wish.image for wish in controls):
            raise UserError(
                "--hint_only was given without a --control that looks at a picture; expected one, "
                "such as canny=FILE:photo.png; add it"
            )
        if boxes and not grounded:
            raise UserError(
                f"--box {self.box[0]} was given without --control gligen=FILE; expected the network"
                " that draws things in boxes; add it"
            )
        styles = [wish for wish in controls if wish.kind == STYLE]
        if styles and self.image_encoder is None:
            raise UserError(
                f"--control {styles[0]} was given without --image_encoder; expected the folder of "
                "CLIP ViT-L/14, which looks at the picture; add it"
            )
        if grounded and not boxes:
            raise UserError(
                "--control gligen=... was given without --box; expected words and their box; add "
                "--box 'words:x0,y0,x1,y1'"
            )


def notices_on_adapters(settings: AdapterSettings) -> list[str]:
    """List settings of adapters that have no effect, one sentence each."""
    kinds = {wish.kind for wish in settings.control_wishes}
    found = []
    if settings.control_mode != CONTROL_MODES[0] and kinds <= {PICTURE, STYLE, GLIGEN}:
        found.append(
            f"--control_mode {settings.control_mode} has no effect: no --control has modes"
        )
    if settings.image_encoder and not kinds & {*THROUGH_ENCODER}:
        found.append("--image_encoder has no effect: no --control looks through it")
    return found


def _wrong(flag: str, text: str, expected: str) -> UserError:
    return UserError(f"{flag} {quoted(text)} was given; expected {expected}; change it")


def _without_numbers(text: str, most: int, least: int = 1) -> tuple[str, list[float]]:
    """Take numbers off the end of ``a:b:1:2``, leaving ``least`` parts."""
    numbers: list[float] = []
    while len(numbers) < most:
        head, colon, tail = text.rpartition(":")
        number = _float(tail)
        if not colon or number is None or len(_files(head)) < least:
            break
        text, numbers = head, [number, *numbers]
    return text, numbers


def _ends_in_a_number(text: str) -> bool:
    """Return whether a file's name goes on with ``:number``, of any kind: one too many, or nan."""
    _, colon, tail = text.rpartition(":")
    try:
        float(tail)
    except ValueError:
        return False
    return bool(colon)


def _files(text: str) -> list[str]:
    """Split ``FILE:IMAGE``, either of which may begin with a drive."""
    parts: list[str] = []
    while text:
        begin = 2 if _DRIVE.match(text) else 0
        colon = text.find(":", begin)
        head, text = (text, "") if colon < 0 else (text[:colon], text[colon + 1 :])
        parts.append(head)
    return parts if all(parts) else []


def _float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")
