"""The three pages: what each draws, how it is started, what it shows at first. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ldm.settings.generation import GenerationSettings, Img2ImgSettings
from ldm.settings.inpaint import InpaintSettings, LowMemoryInpaintSettings
from ldm.settings.low_memory import LowMemory, LowMemoryImg2ImgSettings, LowMemoryTxt2ImgSettings
from ldm.settings.option import changed, option


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What a page is started with; what it draws is chosen on the page."""

    program: ClassVar[str] = "page"

    config: str | None = changed(GenerationSettings, "config")
    ckpt: str | None = changed(GenerationSettings, "ckpt")
    use_ema: bool = changed(GenerationSettings, "use_ema")
    device: str = changed(GenerationSettings, "device")
    precision: str = changed(LowMemory, "precision")
    vram_budget: float | None = changed(LowMemory, "vram_budget")
    turbo: bool = changed(LowMemory, "turbo")
    unet_bs: int | None = changed(LowMemory, "unet_bs")
    outdir: str = changed(GenerationSettings, "outdir")
    port: int = option(7860, "where the page is served", minimum=1, maximum=65535, group="page")
    host: str = option(
        "127.0.0.1",
        "the address to listen at: 127.0.0.1 is for this machine alone, 0.0.0.0 lets every machine "
        "draw that can reach this one",
        group="page",
        metavar="ADDRESS",
    )
    share: bool = option(
        False,
        "let anyone with the link draw, through a tunnel of gradio's, which is fetched for it",
        group="page",
    )


@dataclass(frozen=True, kw_only=True)
class Txt2ImgServer(ServerSettings):
    """How the page for text is started."""

    program: ClassVar[str] = "txt2img_gradio"
    outdir: str = changed(LowMemoryTxt2ImgSettings, "outdir")


@dataclass(frozen=True, kw_only=True)
class Img2ImgServer(ServerSettings):
    """How the page for text and a picture is started."""

    program: ClassVar[str] = "img2img_gradio"
    outdir: str = changed(LowMemoryImg2ImgSettings, "outdir")


@dataclass(frozen=True, kw_only=True)
class InpaintServer(ServerSettings):
    """How the page for a part of a picture is started."""

    program: ClassVar[str] = "inpaint_gradio"
    outdir: str = changed(LowMemoryInpaintSettings, "outdir")


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        server: What it is started with.
        schema: What it draws from.
        title: Its heading.
        hint: A sentence under it.
        first: What its controls show at first, where that is not the default.
        sized: The control that shows the model's own size at first.
        synonyms: Flags that stand for others.
    """

    server: type[ServerSettings]
    schema: type[GenerationSettings]
    title: str
    hint: str
    first: Mapping[str, Any]
    sized: tuple[str, ...]
    synonyms: Mapping[str, str] = field(default_factory=dict)

    @property
    def takes_picture(self) -> bool:
        """Whether it starts from a picture."""
        return issubclass(self.schema, Img2ImgSettings)

    @property
    def takes_mask(self) -> bool:
        """Whether only a part of the picture is drawn anew."""
        return issubclass(self.schema, InpaintSettings)


# Words that the bundled model knows, so that the first press of the button shows what is meant.
_PROMPT = "a photo of a panda on a red background"

TXT2IMG = Page(
    server=Txt2ImgServer,
    schema=LowMemoryTxt2ImgSettings,
    title="Text to image",
    hint="Write what to draw and press Draw.",
    first={"prompt": _PROMPT, "n_samples": 2},
    sized=("H", "W"),
)
IMG2IMG = Page(
    server=Img2ImgServer,
    schema=LowMemoryImg2ImgSettings,
    title="Image to image",
    hint="Give a picture (it can be cropped and painted on here), write what to make of it, and "
    "press Draw.",
    first={"prompt": _PROMPT, "n_samples": 2},
    sized=("W",),
)
INPAINT = Page(
    server=InpaintServer,
    schema=LowMemoryInpaintSettings,
    title="Inpainting",
    hint="Give a picture, paint over what is to be drawn anew, write what should be there, and "
    "press Draw. Everything else stays as it is, to the pixel: the invisible watermark is put "
    "into the new part alone (a JPEG file changes every pixel a little).",
    first={"prompt": _PROMPT, "n_samples": 2},
    sized=("W",),
    synonyms={"--config_path": "--config", "--ckpt_path": "--ckpt"},
)
