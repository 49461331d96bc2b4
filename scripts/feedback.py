"""Judge pictures, and export what was judged: as a table, and as a folder to train on.

Example:
    python scripts/feedback.py outputs/txt2img-samples/samples/00000.png --stars 5 --note "so red"
    python scripts/feedback.py --csv feedback.csv --folder pictures/good
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.errors import UserError
from ldm.paths import exists
from ldm.programs.console import Console
from ldm.programs.start import leave, run_settings_program
from ldm.settings.feedback import THUMBS, FeedbackSettings


def judge(console: Console, settings: FeedbackSettings) -> None:
    """Keep the opinions that were given, and write what was asked for."""
    from ldm.feedback.export import good_ones, write_csv, write_folder
    from ldm.feedback.store import FeedbackStore

    store = FeedbackStore(settings.db)
    if not settings.pictures and not exists(settings.db):
        raise UserError(
            f"--db {settings.db} does not exist; expected a file of opinions; judge pictures "
            "first, or check the path"
        )
    store.check(settings.pictures)
    for picture in settings.pictures:
        given = {"stars": settings.stars, "note": settings.note, "person": settings.person}
        store.give(picture, thumb=THUMBS.get(settings.thumb), **given)
    if settings.pictures:
        console.say(f"Kept in {settings.db}: {len(settings.pictures)} judged.")
    opinions = store.opinions() if settings.csv or settings.folder else []
    if settings.csv:
        count = write_csv(opinions, settings.csv)
        console.say(f"Written: {settings.csv}, {count} opinion{'s' * (count != 1)}.")
    if settings.folder:
        done = write_folder(good_ones(opinions, settings.min_stars), settings.folder)
        for what, paths in (("gone or changed", done.gone), ("without a prompt", done.unsaid)):
            if paths:
                console.warn(f"good pictures that are {what}: {len(paths)}, such as {paths[0]}")
        console.say(
            f"Written: {done.folder}, {_pictures(done.written)}. To train on "
            "them: python main.py --base configs/adapters/lora.yaml --train "
            f"data.params.train.params.root={done.folder}"
        )


def _pictures(count: int) -> str:
    return f"{count} captioned picture{'s' * (count != 1)}"


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    left = "what was judged before is kept"
    return run_settings_program(FeedbackSettings, __doc__, judge, argv, left=left)


if __name__ == "__main__":
    leave(main())
