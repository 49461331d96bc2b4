"""The command line of the studio; what to draw is chosen on its page. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ldm.errors import UserError
from ldm.settings.adapters import AdapterSettings
from ldm.settings.generation import DRAWING_GROUPS
from ldm.settings.option import Settings, changed, option
from optimizedSD.web.page import ServerSettings

NOBODY_ASKED = (
    "--listen without --auth: whoever can reach this machine can draw here, and sees and deletes "
    "all pictures of {outdir}; add --auth NAME:PASSWORD"
)


@dataclass(frozen=True, kw_only=True)
class StudioSettings(Settings):
    """Command-line options of the studio."""

    program: ClassVar[str] = "studio"
    groups: ClassVar[Mapping[str, str]] = {**DRAWING_GROUPS, "page": "the page"}

    config: str | None = changed(ServerSettings, "config")
    trust_config: bool = changed(ServerSettings, "trust_config")
    ckpt: str | None = changed(ServerSettings, "ckpt")
    use_ema: bool = changed(ServerSettings, "use_ema")
    device: str = changed(ServerSettings, "device")
    precision: str = changed(ServerSettings, "precision")
    low_memory: bool = option(
        False,
        "keep the model in the machine's memory, and its parts on the GPU only while they compute",
        group="model",
    )
    outdir: str = changed(ServerSettings, "outdir", default="outputs/studio")
    lora: tuple[str, ...] = changed(ServerSettings, "lora")
    embedding: tuple[str, ...] = changed(ServerSettings, "embedding")
    image_encoder: str | None = changed(
        AdapterSettings,
        "image_encoder",
        help="the folder of the CLIP image encoder that IP-Adapters and style adapters look "
        "through (demo-picture needs none)",
    )
    glossary: str | None = changed(ServerSettings, "glossary")
    translator: str | None = changed(ServerSettings, "translator")
    one_model: bool = option(False, "let nobody load another model from the page", group="page")
    styles: str | None = option(
        None,
        "a table of styles as AUTOMATIC1111's styles.csv: name, prompt, negative_prompt",
        str,
        metavar="FILE",
        shown="styles.csv in the present folder, else a few that ship",
        group="page",
    )
    wildcards: str | None = changed(
        ServerSettings,
        "wildcards",
        help="the folder of lists that prompts may draw from: __animals__ is a line of "
        "animals.txt; visitors switch it on; see docs/wildcards.md",
        shown="wildcards in the present folder, else a few that ship",
        group="page",
    )
    port: int = changed(ServerSettings, "port")
    listen: bool = option(
        False,
        "answer to every machine that can reach this one, not to this one alone",
        group="page",
    )
    auth: str | None = option(
        None,
        "who may use the page; a browser asks for both (the variable STUDIO_AUTH keeps them out of "
        "the list of processes)",
        str,
        metavar="NAME:PASSWORD",
        pattern=r"[^:\s]+:\S{4,}",
        words="a name, a colon and a password of at least 4 characters",
        shown="everybody",
        group="page",
    )
    allowed_hosts: tuple[str, ...] = changed(
        ServerSettings, "allowed_hosts", shown="its address, localhost; with --listen any address"
    )
    max_side: int | None = changed(ServerSettings, "max_side")
    max_pictures: int = changed(ServerSettings, "max_pictures")
    max_steps: int = changed(ServerSettings, "max_steps")
    max_prompt: int = changed(ServerSettings, "max_prompt")
    max_seconds: float = changed(ServerSettings, "max_seconds")
    max_waiting: int = changed(ServerSettings, "max_waiting", default=30)  # a class
    max_pixels: int = changed(ServerSettings, "max_pixels")
    max_upload: int = changed(ServerSettings, "max_upload")

    @property
    def host(self) -> str:
        """The address to listen on."""
        return "0.0.0.0" if self.listen else "127.0.0.1"

    def risk(self, auth: str | None) -> str:
        """Say what a page that listens to all risks; empty if it asks for a password or does not.

        Args:
            auth: Name and password, wherever they come from.
        """
        return NOBODY_ASKED.format(outdir=self.outdir) if self.listen and not auth else ""

    def auth_of(self, environment: Mapping[str, str]) -> str | None:
        """Return name and password, from the command line or the environment.

        Raises:
            UserError: The environment's are none.
        """
        if self.auth is not None:
            return self.auth
        found = environment.get("STUDIO_AUTH") or None
        if found is not None and not _is_auth(found):
            raise UserError(
                "STUDIO_AUTH is not a name, a colon and a password of at least 4 characters; "
                "expected such as ada:lovelace; change it"
            )
        return found


def _is_auth(text: str) -> bool:
    name, colon, password = text.partition(":")
    return bool(name and colon) and len(password) >= 4 and not any(map(str.isspace, text))
