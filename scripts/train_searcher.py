"""Make a database of pictures searchable for scripts/knn2img.py; build it first from a folder.

With --images the pictures of a folder are embedded by CLIP; stopped, it goes on where it was when
run again. Then a searcher is trained: exact for less than 20 000 embeddings, inverted lists by the
faiss library above.

Example:
    python scripts/train_searcher.py --database mine --images photos
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.programs.console import Console
from ldm.programs.start import run_settings_program
from ldm.retrieval.settings import SearcherSettings, database_path, searcher_path


def make_encoder(settings: SearcherSettings):
    """Return CLIP's picture tower."""
    from ldm.pipelines.clip import ClipPictures
    from ldm.pipelines.pipeline import resolve_device

    return ClipPictures(settings.clip_type, settings.clip_ckpt, resolve_device(settings.device))


def embed(console: Console, settings: SearcherSettings) -> None:
    """Embed the folder ``settings.images`` into the database."""
    from tqdm import tqdm

    from ldm.retrieval.embedding import embed_folder

    path = database_path(settings.database)
    with tqdm(desc="embedding", unit="picture", leave=False, disable=None) as bar:
        encoder = make_encoder(settings)
        done = embed_folder(
            settings.images, path, encoder, batch_size=settings.batch_size, progress=bar.update
        )
    if done.notice:
        console.warn(done.notice)
    console.say(f"{done.added} pictures embedded, {done.there} were there before: {path}")


def train(console: Console, settings: SearcherSettings) -> None:
    """Embed pictures if there are any, then train the searcher and write it."""
    if settings.images is not None:
        embed(console, settings)
    from ldm.data.retrieval import RetrievalDatabase
    from ldm.pipelines.models import find
    from ldm.retrieval.searcher import check_count, recall, save_searcher, train_searcher

    database = RetrievalDatabase.read(find(database_path(settings.database)))
    check_count(database, settings.knn)
    searcher = train_searcher(database, settings.index)
    found = recall(searcher, settings.knn)
    target = Path(settings.target_path or searcher_path(settings.database))
    save_searcher(searcher, target)
    console.say(
        f"{searcher.kind} search by {searcher.library} in {len(database)} embeddings finds "
        f"{found:.1%} of {settings.knn} neighbours. Written: {target}"
    )


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    left = "embeddings made so far are kept, run again to go on"
    return run_settings_program(SearcherSettings, __doc__, train, argv, left=left)


if __name__ == "__main__":
    sys.exit(main())
