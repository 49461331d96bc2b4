"""Make a database of pictures searchable for scripts/knn2img.py; build it first from a folder.

With --images the pictures of a folder are embedded by CLIP; stopped, it goes on where it was when
run again. Then a searcher is trained: exact for less than 20 000 embeddings, inverted lists by the
faiss library above.

Example:
    python scripts/train_searcher.py --database mine --images photos
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.arguments import ArgumentParser
from ldm.errors import UserError
from ldm.programs.console import Console, run_guarded
from ldm.retrieval.settings import (
    CLIP_TYPE,
    DATABASE,
    DATABASES,
    SEARCHERS,
    database_path,
    searcher_path,
)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = ArgumentParser(
        prog="train_searcher",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    where = f"a database of {DATABASES}, by name, or its folder (default: {DATABASE})"
    add("-d", "--database", default=DATABASE, metavar="NAME", help=where)
    goes = f"where the searcher goes (default: {SEARCHERS}/NAME, or into the database's folder)"
    add("-t", "--target_path", metavar="FOLDER", help=goes)
    add("-k", "--knn", type=int, default=20, help="neighbours to check it with (default: 20)")
    add(
        "--index",
        choices=("exact", "ivf", "ivfpq"),
        help="kind of index: every embedding, inverted lists, the same over codes (default: by "
        "size: below 20 000, below 100 000, above)",
    )
    add("--images", metavar="FOLDER", help="embed these pictures into the database first")
    add("--clip_type", default=CLIP_TYPE, help=f"the CLIP model (default: {CLIP_TYPE})")
    add("--clip_ckpt", metavar="FILE", help="CLIP's weights (default: those in the hub's caches)")
    add("--batch_size", type=int, default=64, help="pictures at a time (default: 64)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")
    return parser


def make_encoder(options: argparse.Namespace):
    """Return CLIP's picture tower."""
    from ldm.pipelines.clip import ClipPictures
    from ldm.pipelines.pipeline import resolve_device

    return ClipPictures(options.clip_type, options.clip_ckpt, resolve_device(options.device))


def embed(console: Console, options: argparse.Namespace) -> None:
    """Embed the folder of pictures that the command line names."""
    from tqdm import tqdm

    from ldm.retrieval.embedding import embed_folder

    path = database_path(options.database)
    with tqdm(desc="embedding", unit="picture", leave=False, disable=None) as bar:
        encoder = make_encoder(options)
        done = embed_folder(
            options.images, path, encoder, batch_size=options.batch_size, progress=bar.update
        )
    if done.notice:
        console.warn(done.notice)
    console.say(f"{done.added} pictures embedded, {done.there} were there before: {path}")


def run(console: Console, argv: list[str] | None) -> None:
    """Do what the command line asks for."""
    options = parser().parse_args(argv)
    if options.knn < 1:
        raise UserError(f"--knn {options.knn} was given; expected 1 or more; change it")
    if options.images is not None:
        embed(console, options)
    from ldm.data.retrieval import RetrievalDatabase
    from ldm.pipelines.models import find
    from ldm.retrieval.searcher import check_count, recall, save_searcher, train_searcher

    database = RetrievalDatabase.read(find(database_path(options.database)))
    check_count(database, options.knn)
    searcher = train_searcher(database, options.index)
    found = recall(searcher, options.knn)
    target = Path(options.target_path or searcher_path(options.database))
    save_searcher(searcher, target)
    console.say(
        f"{searcher.kind} search by {searcher.library} in {len(database)} embeddings finds "
        f"{found:.1%} of {options.knn} neighbours. Written: {target}"
    )


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code: 0, 2 for a user's error, 130 for Ctrl-C."""
    console = Console("train_searcher", sys.stdout, sys.stderr)
    left = "embeddings made so far are kept, run again to go on"
    return run_guarded(console, lambda: run(console, argv), lambda: left)


if __name__ == "__main__":
    sys.exit(main())
