"""What an operator can choose: flags over environment over TOML file; secrets are no flags.

A secret on a command line is read by everyone who lists the machine's processes, so those four
come from the environment or the file alone. Nothing here imports torch or a web framework.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from apps.line_bot.secret import Secret
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import writing_fault
from ldm.settings.generation import DRAWING_GROUPS, LARGEST_SIDE, GenerationSettings
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings
from ldm.settings.mistyped import alike
from ldm.settings.option import Option, Settings, changed, option, options_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST_FILE = 2**20  # bytes of a TOML file
PREFIX = "LINE_BOT_"
# What LINE's own pages call it, or every web service does: no prefix.
PLAIN = ("public_base_url",)
STORES = ("own", "s3", "imgur")
MOST_SIGNED = 168.0  # hours for which an address can be signed


@dataclass(frozen=True, kw_only=True)
class BotSettings(Settings):
    """The bot's settings, but for secrets. Each is a flag, ``LINE_BOT_<NAME>`` or a TOML key."""

    program: ClassVar[str] = "line_bot"
    groups: ClassVar[Mapping[str, str]] = {
        "bot": "the bot",
        "who": "who may draw, and how much",
        "delivery": "delivery",
        "pictures": "pictures' addresses",
        "prompt": "prompts in Japanese",
        "picture": DRAWING_GROUPS["picture"],
        "adapters": DRAWING_GROUPS["adapters"],
        "model": DRAWING_GROUPS["model"],
    }

    public_base_url: str | None = option(
        None,
        "the https address under which LINE and its users reach this bot (environment: "
        "PUBLIC_BASE_URL)",
        str,
        shown="none, required without --tunnel",
        group="bot",
        metavar="URL",
        pattern=r"https?://[^\s/?#@]+(/[^\s?#]*)?",
        words="an address such as https://draw.example.org",
    )
    tunnel: str = option(
        "none",
        "ngrok opens a public address by the pyngrok package",
        choices=("none", "ngrok"),
        group="bot",
    )
    host: str = option("127.0.0.1", "the address to listen on", group="bot", metavar="ADDRESS")
    port: int = option(8000, "the port to listen on", minimum=0, maximum=65535, group="bot")
    data: str = option(
        "outputs/line_bot",
        "the folder for the queue's database and for pictures",
        group="bot",
        metavar="FOLDER",
    )
    line_api: str = option(
        "https://api.line.me",
        "where the Messaging API is; a stand-in for LINE has another address",
        group="bot",
        metavar="URL",
        pattern=r"https?://[^\s/?#@]+",
        words="an address without a path",
    )
    line_data: str = option(
        "https://api-data.line.me",
        "where the contents of messages are",
        group="bot",
        metavar="URL",
        pattern=r"https?://[^\s/?#@]+",
        words="an address without a path",
    )
    open_to: str = option(
        "all",
        "who may draw: all, or listed people and chats",
        choices=("all", "listed"),
        group="who",
    )
    allow: tuple[str, ...] = option(
        (),
        "ids of users, groups and rooms for --open_to listed",
        str,
        several="*",
        metavar="ID",
        pattern=r"[A-Za-z0-9_-]{1,64}",
        words="ids as LINE gives them",
        group="who",
    )
    refused_words: str | None = option(
        None,
        "a UTF-8 file with more words that are refused, one a line",
        str,
        metavar="FILE",
        group="who",
    )
    daily_pictures: int = option(
        30, "pictures that a user may have drawn in a day", minimum=1, maximum=10**6, group="who"
    )
    daily_total: int = option(
        1000, "pictures for all users in a day", minimum=1, maximum=10**9, group="who"
    )
    waiting_jobs: int = option(
        10, "jobs of one user that may wait", minimum=1, maximum=10**4, group="who"
    )
    most_pictures: int = option(4, "pictures of one message", minimum=1, maximum=4, group="who")
    most_steps: int = option(100, "sampling steps of a picture", minimum=1, group="who")
    max_side: int | None = option(
        None,
        "the largest side of a picture in pixels",
        int,
        minimum=64,
        maximum=LARGEST_SIDE,
        shown="twice the model's own",
        group="who",
    )
    most_prompt: int = option(1000, "letters of a prompt", minimum=1, maximum=5000, group="who")
    reply_seconds: float = option(
        30.0,
        "how old an event may be for its reply token to be used",
        minimum=0.0,
        maximum=600.0,
        group="delivery",
    )
    give_up_hours: float = option(
        23.0,
        "how long a delivery is repeated; LINE knows a retry key for 24 hours",
        minimum=0.01,
        maximum=23.9,
        group="delivery",
    )
    store: str = option(
        "own",
        "who serves the pictures: this bot, an S3-compatible storage or Imgur",
        choices=STORES,
        group="pictures",
    )
    keep_hours: float = option(
        168.0, "how long pictures are kept", minimum=1.0, maximum=24.0 * 366, group="pictures"
    )
    s3_endpoint: str | None = option(
        None, "the storage's address", str, shown="Amazon's", metavar="URL", group="pictures"
    )
    s3_bucket: str | None = option(None, "its bucket", str, metavar="NAME", group="pictures")
    prompt_lang: str = changed(GenerationSettings, "prompt_lang")
    glossary: str | None = changed(GenerationSettings, "glossary")
    translator: str | None = changed(GenerationSettings, "translator")
    prompt_syntax: str = changed(GenerationSettings, "prompt_syntax")
    clip_skip: int | None = changed(
        GenerationSettings, "clip_skip", default=None, shown="what suits the model, else 1"
    )
    emphasis: str = changed(GenerationSettings, "emphasis")
    ddim_steps: int | None = changed(
        LowMemoryTxt2ImgSettings, "ddim_steps", default=None, shown="what suits the model, else 50"
    )
    sampler: str | None = changed(
        LowMemoryTxt2ImgSettings,
        "sampler",
        default=None,
        aliases=(),
        shown="what suits the model, else plms, and ddim from a picture",
    )
    scale: float | None = changed(
        LowMemoryTxt2ImgSettings, "scale", default=None, shown="what suits the model, else 7.5"
    )
    lora: tuple[str, ...] = changed(
        GenerationSettings,
        "lora",
        help="a LoRA that acts in all pictures, by its path or its name in models/lora, with a "
        "scale or two, for the UNet and the text encoder: ink.safetensors:0.8; may be given again",
    )
    embedding: tuple[str, ...] = changed(GenerationSettings, "embedding")
    config: str | None = changed(GenerationSettings, "config")
    trust_config: bool = changed(GenerationSettings, "trust_config")
    ckpt: str | None = changed(GenerationSettings, "ckpt")
    use_ema: bool = changed(GenerationSettings, "use_ema")
    device: tuple[str, ...] = option(
        ("auto",),
        "the devices to draw on, each with a worker of its own",
        str,
        several="+",
        metavar="DEVICE",
        group="model",
    )
    precision: str = changed(LowMemoryTxt2ImgSettings, "precision")
    vram_budget: float | None = changed(LowMemoryTxt2ImgSettings, "vram_budget")
    turbo: bool = changed(LowMemoryTxt2ImgSettings, "turbo")
    unet_bs: int = changed(LowMemoryTxt2ImgSettings, "unet_bs")

    def validate(self) -> None:
        """Check each value, the address and the folder.

        Raises:
            UserError: naming the flag, what it allows and what to do.
        """
        super().validate()
        if not self.public_base_url and self.tunnel == "none":
            raise UserError(
                "PUBLIC_BASE_URL was not given; expected this bot's https address; set it, or add "
                "--tunnel ngrok"
            )
        if (self.public_base_url or "").startswith("http://"):
            raise UserError(
                f"PUBLIC_BASE_URL {self.public_base_url} was given; LINE takes https addresses "
                "only; put a proxy with a certificate before the bot, or add --tunnel ngrok"
            )
        if self.public_base_url and self.tunnel != "none":
            raise UserError(
                f"PUBLIC_BASE_URL and --tunnel {self.tunnel} were given; expected one of them, as "
                "a tunnel has an address of its own; leave one out"
            )
        if self.allow and self.open_to != "listed":
            raise UserError(
                "--allow was given, and the bot is open to all; expected --open_to listed beside "
                "it; add that, or leave --allow out"
            )
        if self.keep_hours < self.give_up_hours:
            raise UserError(
                f"--keep_hours {self.keep_hours:g} was given, and deliveries are tried for "
                f"{self.give_up_hours:g} hours; expected pictures to be kept as long; raise it, "
                "or lower --give_up_hours"
            )
        if self.store == "s3" and self.keep_hours > MOST_SIGNED:
            raise UserError(
                f"--keep_hours {self.keep_hours:g} was given; addresses in an S3-compatible "
                f"storage hold for {MOST_SIGNED:g} hours at most; give that or less"
            )
        if self.store == "s3" and not self.s3_bucket:
            raise UserError("--store s3 was given without a bucket; add --s3_bucket NAME")
        if fault := writing_fault(self.data):
            raise UserError(
                f"--data {self.data} {fault}; expected a writable folder; give another one"
            )


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """What nobody may read: from the environment or the TOML file.

    Attributes:
        line_channel_secret: Signs LINE's webhooks.
        line_channel_access_token: Lets the bot speak.
        admin_token: Opens /admin; an empty one closes it.
        s3_access_key: Of the S3-compatible storage.
        s3_secret_key: Of the S3-compatible storage.
        imgur_client_id: Of the application at Imgur.
    """

    line_channel_secret: Secret
    line_channel_access_token: Secret
    admin_token: Secret = Secret("")  # noqa: RUF009 - it cannot be changed
    s3_access_key: Secret = Secret("")  # noqa: RUF009
    s3_secret_key: Secret = Secret("")  # noqa: RUF009
    imgur_client_id: Secret = Secret("")  # noqa: RUF009


SECRET_NAMES = tuple(each.name for each in fields(Secrets))


def read_settings(
    flags: Mapping[str, Any], environment: Mapping[str, str], file: str | None = None
) -> tuple[BotSettings, Secrets]:
    """Put settings together from their three sources and check them.

    Args:
        flags: What the command line gives, by field name.
        environment: The process's.
        file: A TOML file; None is no file.

    Raises:
        UserError: a value is missing, unknown or out of range; a secret is never quoted.
    """
    table = read_toml(file) if file else {}
    options = {each.name: each for each in options_of(BotSettings)}
    _check_names(table, [*options, *SECRET_NAMES], file)
    values = {
        name: _of_file(options[name], value, file)
        for name, value in table.items()
        if name in options
    }
    for name, each in options.items():
        key = name.upper() if name in PLAIN else PREFIX + name.upper()
        if environment.get(key):
            values[name] = _of_environment(each, key, environment[key])
    settings = BotSettings(**{**values, **flags})
    settings.validate()
    return settings, _secrets(table, environment, settings)


def read_toml(file: str) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UserError: it cannot be read; the message quotes none of it, as it holds secrets.
    """
    try:
        data = Path(file).read_bytes()
        if len(data) > LARGEST_FILE:
            raise ValueError(f"it has {len(data)} bytes")
        return tomllib.loads(data.decode("utf-8"))
    except (OSError, ValueError) as error:
        fault = error.strerror if isinstance(error, OSError) else _place_of(error)
        raise UserError(
            f"--config-file {file} cannot be read ({fault}); expected a TOML file; correct it"
        ) from None


def _place_of(error: ValueError) -> str:
    found = re.search(r"\(at [^()]*\)", str(error))
    return f"no TOML {found[0].strip('()')}" if found else "no TOML"


def _check_names(table: Mapping[str, Any], known: list[str], file: str | None) -> None:
    for name in table:
        if name not in known:
            close = alike(name, known)
            hint = f"; did you mean {close}?" if close else "; see --help for what there is"
            raise UserError(f"{file}: unknown key {quoted(name)}{hint}")


def _of_file(each: Option, value: Any, file: str | None) -> Any:
    several = bool(each.several)
    items = value if several and isinstance(value, list) else [value]
    texts = [str(item).lower() if isinstance(item, bool) else str(item) for item in items]
    try:
        return each.read(texts if several else texts[0])
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _of_environment(each: Option, key: str, text: str) -> Any:
    try:
        return each.read(text.split() if each.several else text)
    except UserError as error:
        raise UserError(str(error).replace(each.flag, key, 1)) from None


def _secrets(
    table: Mapping[str, Any], environment: Mapping[str, str], settings: BotSettings
) -> Secrets:
    found: dict[str, Secret] = {}
    for each in fields(Secrets):
        text = environment.get(each.name.upper()) or table.get(each.name) or ""
        if not isinstance(text, str) or re.search(r"[^\x21-\x7e]", text):
            raise UserError(
                f"{each.name.upper()} holds something else than letters, digits and signs; "
                "expected the text as its owner shows it; copy it again"
            )
        if not text and each.default is MISSING:
            raise UserError(
                f"{each.name.upper()} was not given; expected the text from LINE's developer "
                "console; set it in the environment or in the TOML file"
            )
        found[each.name] = Secret(text)
    secrets = Secrets(**found)
    if secrets.admin_token and len(secrets.admin_token.reveal()) < 16:
        raise UserError(
            "ADMIN_TOKEN is too short; expected 16 letters or more that nobody guesses; take the "
            "output of: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    if settings.store == "imgur" and not secrets.imgur_client_id:
        raise UserError("--store imgur was given without IMGUR_CLIENT_ID; set it")
    return secrets
