"""The four pages: what each draws, how it is started, what it first shows. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ldm.settings.generation import (
    DRAWING_GROUPS,
    LARGEST_SIDE,
    GenerationSettings,
    Img2ImgSettings,
)
from ldm.settings.inpaint import InpaintSettings, LowMemoryInpaintSettings
from ldm.settings.low_memory import LowMemory, LowMemoryImg2ImgSettings, LowMemoryTxt2ImgSettings
from ldm.settings.option import Settings, changed, option
from ldm.settings.swap import LowMemorySwapSettings, SwapSettings
from optimizedSD.web.setting_words import Said

AROUND = 32  # pixels around what is painted over that are drawn too, and thrown away
HOST_NAME = r"[A-Za-z0-9_.-]+|\[?[0-9A-Fa-f:.]+\]?"


@dataclass(frozen=True, kw_only=True)
class ServerSettings(Settings):
    """Command-line options of a page's program; what to draw is chosen on the page."""

    program: ClassVar[str] = "page"
    groups: ClassVar[Mapping[str, str]] = {**DRAWING_GROUPS, "page": "the page"}

    config: str | None = changed(GenerationSettings, "config")
    trust_config: bool = changed(GenerationSettings, "trust_config")
    ckpt: str | None = changed(GenerationSettings, "ckpt")
    use_ema: bool = changed(GenerationSettings, "use_ema")
    device: str = changed(GenerationSettings, "device")
    precision: str = changed(LowMemory, "precision")
    vram_budget: float | None = changed(LowMemory, "vram_budget")
    turbo: bool = changed(LowMemory, "turbo")
    unet_bs: int | None = changed(LowMemory, "unet_bs")
    outdir: str = changed(GenerationSettings, "outdir")
    lora: tuple[str, ...] = changed(
        GenerationSettings,
        "lora",
        help="a LoRA that acts in all pictures, by its path or its name in models/lora, with a "
        "scale or two, for the UNet and the text encoder: ink.safetensors:0.8; may be given again",
    )
    embedding: tuple[str, ...] = changed(GenerationSettings, "embedding")
    wildcards: str | None = changed(GenerationSettings, "wildcards", group="page")
    glossary: str | None = changed(GenerationSettings, "glossary", group="page")
    translator: str | None = changed(GenerationSettings, "translator", group="page")
    port: int = option(
        7860, "the port to serve the page on", minimum=1, maximum=65535, group="page"
    )
    host: str = option(
        "127.0.0.1",
        "the address to listen on: 127.0.0.1 is this machine only, 0.0.0.0 lets every machine that "
        "can reach this one draw",
        group="page",
        metavar="ADDRESS",
    )
    share: bool = option(
        False,
        "let anyone with the link draw, through a tunnel program that gradio downloads",
        group="page",
    )
    allowed_hosts: tuple[str, ...] = option(
        (),
        "other names that the page is reached under, such as a proxy's",
        str,
        several="+",
        metavar="NAME",
        pattern=HOST_NAME,
        words="host names or addresses without a scheme or port, such as draw.example.org",
        shown="its address, localhost; with --host 0.0.0.0 this machine's name and any address",
        group="page",
    )
    max_side: int | None = option(
        None,
        "the largest height and width of a picture that a visitor may ask for, in pixels",
        int,
        minimum=1,
        maximum=LARGEST_SIDE,
        shown="twice the model's own size, 256 at least",
        group="page",
    )
    max_pictures: int = option(16, "the most pictures of a run", minimum=1, group="page")
    max_steps: int = option(200, "the most sampling steps of a run", minimum=1, group="page")
    max_prompt: int = option(
        2000, "the longest prompt, in characters", minimum=1, maximum=10**6, group="page"
    )
    max_seconds: float = option(
        900.0,
        "how long a run may draw; then it is stopped after the current step, and its finished "
        "pictures are kept",
        minimum=1.0,
        group="page",
    )
    max_waiting: int = option(
        8, "how many runs may wait for the one that is drawn", minimum=0, maximum=30, group="page"
    )
    max_pixels: int = changed(GenerationSettings, "max_pixels", group="page")
    max_upload: int = option(64, "the largest upload, in MB", minimum=1, maximum=1024, group="page")


@dataclass(frozen=True, kw_only=True)
class Txt2ImgServer(ServerSettings):
    """Options of the text-to-image page."""

    program: ClassVar[str] = "txt2img_gradio"
    outdir: str = changed(LowMemoryTxt2ImgSettings, "outdir")


@dataclass(frozen=True, kw_only=True)
class Img2ImgServer(ServerSettings):
    """Options of the image-to-image page."""

    program: ClassVar[str] = "img2img_gradio"
    outdir: str = changed(LowMemoryImg2ImgSettings, "outdir")


@dataclass(frozen=True, kw_only=True)
class InpaintServer(ServerSettings):
    """Options of the inpainting page."""

    program: ClassVar[str] = "inpaint_gradio"
    config: str | None = changed(GenerationSettings, "config", synonyms=("--config_path",))
    ckpt: str | None = changed(GenerationSettings, "ckpt", synonyms=("--ckpt_path",))
    outdir: str = changed(LowMemoryInpaintSettings, "outdir")


@dataclass(frozen=True, kw_only=True)
class SwapServer(ServerSettings):
    """Options of the page that edits by prompts."""

    program: ClassVar[str] = "swap_gradio"
    outdir: str = changed(LowMemorySwapSettings, "outdir")


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        server: The class of its command-line options.
        schema: The class of the settings that it draws with.
        heading: In the languages of ``setting_words.LANGUAGES``.
        hint: The instructions under the heading, in the same languages.
        initial: What controls first show, by setting, where that is not the default.
        size_controls: Settings whose controls first show the model's own size.
        fixed: Settings that are the same for every run, and so have no control.
    """

    server: type[ServerSettings]
    schema: type[GenerationSettings]
    heading: Said
    hint: Said
    initial: Mapping[str, Any]
    size_controls: tuple[str, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The heading in English."""
        return self.heading[0]

    @property
    def takes_picture(self) -> bool:
        """Whether it starts from an init image."""
        return issubclass(self.schema, Img2ImgSettings)

    @property
    def takes_mask(self) -> bool:
        """Whether it redraws only a part of the init image."""
        return issubclass(self.schema, InpaintSettings)

    @property
    def edits(self) -> bool:
        """Whether it edits a picture by its prompt."""
        return issubclass(self.schema, SwapSettings)


# The bundled model knows these words, so the first press of the button gives a sensible picture.
_PROMPT = "a photo of a panda on a red background"

TXT2IMG = Page(
    server=Txt2ImgServer,
    schema=LowMemoryTxt2ImgSettings,
    heading=("Text to image", "文章から画像", "文字生成圖片"),
    hint=(
        "Describe a picture and press Draw (or Ctrl+Enter).",
        "描きたいものを書いて「描く」（または Ctrl+Enter）を押してください。",
        "描述想要的圖片，然後按「繪圖」（或 Ctrl+Enter）。",
    ),
    initial={"prompt": _PROMPT, "n_samples": 2},
    size_controls=("H", "W"),
)
IMG2IMG = Page(
    server=Img2ImgServer,
    schema=LowMemoryImg2ImgSettings,
    heading=("Image to image", "画像から画像", "圖片生成圖片"),
    hint=(
        "Upload a picture (you can crop it and paint on it here), describe what it should become, "
        "and press Draw (or Ctrl+Enter).",
        "画像を読み込み（ここで切り抜きや描き込みができます）、何にするかを書いて「描く」"
        "（または Ctrl+Enter）を押してください。",
        "上傳圖片（可在此裁切與塗畫），描述要變成什麼，然後按「繪圖」（或 Ctrl+Enter）。",
    ),
    initial={"prompt": _PROMPT, "n_samples": 2},
    size_controls=("W",),
)
INPAINT = Page(
    server=InpaintServer,
    schema=LowMemoryInpaintSettings,
    heading=("Inpainting", "部分の描き直し", "局部重繪"),
    hint=(
        "Upload a picture, paint over the part to redraw, describe what should be there, and press "
        "Draw (or Ctrl+Enter). The picture keeps its size, and beyond the part and its soft edge "
        "every pixel stays exactly the same. (Saving as JPEG changes every pixel a little.)",
        "画像を読み込み、描き直す所を塗り、そこに何を描くかを書いて「描く」（または Ctrl+Enter）を"
        "押してください。画像の大きさは変わらず、塗った所とぼかした縁のほかは一画素も変わりません。"
        "（JPEG で保存すると全体が少し変わります。）",
        "上傳圖片，塗抹要重畫的部分，描述那裡該有什麼，然後按「繪圖」（或 Ctrl+Enter）。"
        "圖片大小不變，塗抹處與柔化邊緣以外的像素完全相同。（存成 JPEG 時每個像素都會略有變化。）",
    ),
    initial={"prompt": _PROMPT, "n_samples": 2, "only_masked": AROUND},
    size_controls=(),
)
SWAP = Page(
    server=SwapServer,
    schema=LowMemorySwapSettings,
    heading=("Edit by words", "言葉で編集", "以文字編輯"),
    hint=(
        "Describe a picture, change words of its description, and press Draw (or Ctrl+Enter): both "
        "pictures are drawn from the same noise, and what the words have in common stays where it "
        "is. Below them is shown where each word looks.",
        "画像を言葉で書き、その言葉を変えて「描く」（または Ctrl+Enter）を押してください。"
        "二枚は同じノイズから描かれ、共通する言葉のものは同じ場所に残ります。"
        "その下に、各語が見ている場所を示します。",
        "描述一張圖，改動其中的詞，然後按「繪圖」（或 Ctrl+Enter）：兩張圖從相同的雜訊畫起，"
        "共同的詞所指的東西留在原位。下方顯示每個詞看著哪裡。",
    ),
    initial={"sprompt": _PROMPT, "prompt": "a photo of a cat on a red background"},
    size_controls=("H", "W"),
    # A picture to start from is for scripts/swap.py: to invert one takes gradients, which models
    # whose parts take turns on the device do not give. Edits read plain prompts.
    fixed={
        **{
            name: getattr(LowMemorySwapSettings, name)
            for name in (
                *("also", "use_mask", "strength", "invert", "is_get_attn", "every", "half"),
                *("prompt_syntax", "clip_skip", "emphasis"),
            )
        },
        "is_swap": True,
    },
)
