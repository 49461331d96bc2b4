"""What an operator can choose. Imports neither torch nor a web framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ldm.settings.generation import DRAWING_GROUPS, GenerationSettings
from ldm.settings.option import Settings, changed, option
from optimizedSD.web.page import ServerSettings as PageSettings


@dataclass(frozen=True, kw_only=True)
class ServerSettings(Settings):
    """Flags of ``python -m apps.server``; what to draw is for requests to say."""

    program: ClassVar[str] = "server"
    groups: ClassVar[Mapping[str, str]] = {
        "server": "the server",
        "sharing": "how the model is shared",
        "limits": "what one job may ask for",
        "kept": "what is kept",
        "prompt": "prompts in Japanese and Chinese",
        "model": DRAWING_GROUPS["model"],
        "output": "what is done to pictures",
    }

    host: str = option(
        "127.0.0.1",
        "the address to listen on: 127.0.0.1 is this machine only; others need --keys",
        group="server",
        metavar="ADDRESS",
    )
    port: int = option(7860, "the port to listen on", minimum=0, maximum=65535, group="server")
    keys: str | None = option(
        None,
        "who may draw: a file of lines NAME:SHA-256 of the key, or the same in the environment's "
        "LDM_SERVER_KEYS, with blanks between; without any, everybody on this machine",
        str,
        group="server",
        metavar="FILE",
    )
    cors: tuple[str, ...] = option(
        (),
        "origins of web pages whose scripts may use the server, as https://draw.example.org",
        str,
        several="+",
        metavar="ORIGIN",
        pattern=r"https?://[A-Za-z0-9.\[\]:-]+",
        words="origins with a scheme and without a path",
        group="server",
    )
    allowed_hosts: tuple[str, ...] = changed(
        PageSettings,
        "allowed_hosts",
        help="other names that the server is reached under, such as a proxy's",
        group="server",
    )
    grace: float = option(
        30.0,
        "seconds that SIGTERM leaves to the pictures that are being drawn, and to their owners to "
        "fetch them",
        minimum=0.0,
        maximum=3600.0,
        group="server",
    )
    batch_size: int = option(
        8, "the most pictures drawn at a time", minimum=1, maximum=1024, group="sharing"
    )
    max_wait: float = option(
        50.0,
        "milliseconds that a picture waits for others to be drawn with it while the model is idle",
        minimum=0.0,
        maximum=60_000.0,
        group="sharing",
    )
    max_waiting: int = option(
        200, "pictures that may wait in all", minimum=1, maximum=10**6, group="sharing"
    )
    max_waiting_of_key: int = option(
        50, "pictures of one key that may wait", minimum=1, maximum=10**6, group="sharing"
    )
    max_side: int | None = changed(
        PageSettings,
        "max_side",
        help="the largest height and width of a picture, in pixels",
        group="limits",
    )
    max_pictures: int = changed(
        PageSettings, "max_pictures", help="the most pictures of a job", group="limits"
    )
    max_steps: int = changed(
        PageSettings, "max_steps", help="the most sampling steps", group="limits"
    )
    max_prompt: int = changed(PageSettings, "max_prompt", group="limits")
    max_seconds: float = changed(
        PageSettings,
        "max_seconds",
        help="how long a batch may draw before it is stopped",
        group="limits",
    )
    max_pixels: int = changed(GenerationSettings, "max_pixels", group="limits")
    max_upload: int = option(
        64, "the largest request, in MB", minimum=1, maximum=1024, group="limits"
    )
    keep_jobs: int = option(
        1000, "jobs that are kept after their end", minimum=1, maximum=10**6, group="kept"
    )
    keep_mb: int = option(
        512, "MB of finished pictures that are kept, in memory", minimum=1, group="kept"
    )
    keep_minutes: float = option(
        60.0, "minutes that a job is kept after its end", minimum=0.1, maximum=10**5, group="kept"
    )
    wildcards: str | None = changed(GenerationSettings, "wildcards")
    glossary: str | None = changed(GenerationSettings, "glossary")
    translator: str | None = changed(GenerationSettings, "translator")
    config: str | None = changed(GenerationSettings, "config")
    trust_config: bool = changed(GenerationSettings, "trust_config")
    ckpt: str | None = changed(GenerationSettings, "ckpt")
    use_ema: bool = changed(GenerationSettings, "use_ema")
    device: str = changed(GenerationSettings, "device")
    precision: str = changed(GenerationSettings, "precision")
    kernels: str = changed(GenerationSettings, "kernels")
    compile: bool = changed(GenerationSettings, "compile")
    graphs: str = changed(GenerationSettings, "graphs")
    attention_backend: str = changed(GenerationSettings, "attention_backend")
    safety_checker: str = changed(GenerationSettings, "safety_checker")
    watermark: str | None = changed(
        GenerationSettings,
        "watermark",
        default=None,
        shown="reference from text, gentle from pictures, as the programs do",
    )
