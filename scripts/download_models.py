"""Fetch weights and put them where the other programs look for them.

The only program here that uses the network. Interrupted, it goes on where it stopped when run
again; a file is checked by its SHA-256 before it is put in place, or a line says what was not.

Environment: HF_TOKEN (for models that ask for a login), HF_ENDPOINT (a mirror of the hub), and the
usual proxy variables.

Example:
    python scripts/download_models.py sd-v1-4
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

import difflib
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.checkpoint.download.connection import Source
from ldm.checkpoint.download.fetch import fetch
from ldm.checkpoint.download.sources import HUB, MODELS, V1_FOLDER, V1_LICENCE, Model, describe
from ldm.errors import UserError
from ldm.paths import exists
from ldm.programs.console import Console
from ldm.programs.downloads import DownloadSettings
from ldm.programs.start import run_settings_program

ROOT = Path(__file__).resolve().parents[1]


def choose(names: Sequence[str]) -> list[Model]:
    """Look names up.

    Raises:
        UserError: None given, or one that is not in the table.
    """
    if not names:
        raise UserError(f"no NAME given; expected one of {', '.join(MODELS)}; see --list")
    for name in names:
        if name not in MODELS:
            near = difflib.get_close_matches(name, MODELS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(MODELS)}"
            raise UserError(f"there is no model {name!r} in the table; {hint}")
    return [MODELS[name] for name in names]


def endpoint() -> str:
    """Return the hub's address, or the mirror's in HF_ENDPOINT.

    Raises:
        UserError: HF_ENDPOINT is no web address.
    """
    address = os.environ.get("HF_ENDPOINT") or HUB
    if not address.startswith(("https://", "http://")):
        raise UserError(f"HF_ENDPOINT is {address!r}; expected an address such as {HUB}")
    return address.rstrip("/")


def token() -> str | None:
    """Return the login in HF_TOKEN, if there is one.

    Raises:
        UserError: It holds what no token can, such as a line's end.
    """
    value = os.environ.get("HF_TOKEN", "").strip()
    if not (value.isascii() and value.isprintable()):
        raise UserError(
            "HF_TOKEN holds characters that no token has; expected hf_...; copy it again"
        )
    return value or None


def download(console: Console, model: Model, dest: Path | None) -> None:
    """Fetch what is not there yet of one model, with a progress bar a file."""
    from tqdm import tqdm

    hub, folder = endpoint(), ROOT / model.folder if dest is None else dest
    for file in model.files:
        source = Source(
            model.address(file, hub),
            file.sha256,
            model.page,
            token() if model.site == HUB else None,
            file.size,
        )
        with tqdm(desc=file.name, unit="B", unit_scale=True, disable=None) as bar:

            def show(done: int, total: int | None, bar: tqdm = bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            notices: list[str] = []
            fetched = fetch(source, folder / file.name, progress=show, notice=notices.append)
        console.say(f"{'put in place' if fetched else 'already there'}: {folder / file.name}")
        for text in notices:
            console.say(text)


def say_which_is_used(console: Console, dest: Path | None) -> None:
    """Say which of two default checkpoints is used, where both are there."""
    both = [ROOT / V1_FOLDER / name for name in ("model.ckpt", "model.safetensors")]
    if dest is None and all(exists(path) for path in both):
        console.say(
            f"{both[0].name} is there too and stays the default; --ckpt {both[1]} takes this one"
        )


def act(console: Console, settings: DownloadSettings) -> None:
    """List the models, or fetch those that are named."""
    if settings.list:
        console.say(describe())
        return
    for model in choose(settings.names):
        download(console, model, settings.dest)
        if model.folder == V1_FOLDER:
            console.say(f"Licence: {V1_LICENCE}")
    say_which_is_used(console, settings.dest)


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    left = "what has arrived is kept, run again to go on"
    return run_settings_program(DownloadSettings, __doc__, act, argv, left=left)


if __name__ == "__main__":
    sys.exit(main())
