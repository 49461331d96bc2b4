"""Opinions about pictures, as a page takes and shows them; kept by ``ldm.feedback``.

    clicks -> FeedbackStore(outdir/feedback.sqlite) -> a table, or a folder that main.py trains on

A page names a picture by its file in the output folders; others are refused. Imports no torch.
"""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from ldm.errors import UserError
from ldm.feedback.export import Exported, good_ones, write_csv, write_folder
from ldm.feedback.store import FeedbackStore, Opinion
from ldm.gallery.index import Gallery
from ldm.images.io import next_index

FILE = "feedback.sqlite"
TRAINING = "training"  # a folder of copies: the gallery leaves it out
_LIKED = "liked-{:04d}"
MOST_EXPORTS = 100  # folders of good pictures: each holds copies


@dataclass(frozen=True)
class Judged:
    """How pictures were judged so far.

    Attributes:
        opinions: How many opinions there are.
        pictures: How many pictures they are of.
        good: How many pictures more people call good than bad.
    """

    opinions: int
    pictures: int
    good: int


class Opinions:
    """The opinions on a gallery's pictures.

    Args:
        gallery: The pictures that may be judged.
        outdir: Where the file of opinions is, and where exports go.
    """

    def __init__(self, gallery: Gallery, outdir: str | Path) -> None:
        self.gallery, self.outdir = gallery, Path(outdir)
        self.store = FeedbackStore(self.outdir / FILE)

    def give(
        self,
        picture: str | Path,
        person: str = "",
        *,
        thumb: int | None = None,
        stars: int | None = None,
        note: str | None = None,
    ) -> Opinion:
        """Keep what somebody thinks of a picture; arguments as ``FeedbackStore.give``.

        Raises:
            UserError: It is no picture of the gallery, or a value is out of range.
        """
        path = self.gallery.inside(picture)
        return self.store.give(path, person=person.strip(), thumb=thumb, stars=stars, note=note)

    def of(self, picture: str | Path, person: str = "") -> Opinion | None:
        """Return what somebody thinks of a picture; None if nothing.

        Raises:
            UserError: It is no picture of the gallery.
        """
        return self.store.of(self.gallery.inside(picture), person.strip())

    def judged(self) -> Judged:
        """Return how pictures were judged so far."""
        given = self.store.opinions()
        return Judged(len(given), len({each.hash for each in given}), len(good_ones(given)))

    def table(self) -> bytes:
        """Return all opinions as CSV; files are named as below the output folders.

        Raises:
            UserError: The opinions cannot be read.
        """
        shown = [replace(each, path=self._below(each.path)) for each in self.store.opinions()]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "feedback.csv")
            write_csv(shown, path)
            return path.read_bytes()

    def export(self, min_stars: int = 4) -> Exported:
        """Copy the good pictures with their prompts into a new folder beside the opinions.

        Args:
            min_stars: How many stars are good, where there is no thumb.

        Raises:
            UserError: There are none, or too many such folders.
        """
        folder = self.outdir / TRAINING
        number = next_index(folder, _LIKED)
        if number >= MOST_EXPORTS:
            raise UserError(
                f"{TRAINING}/{_LIKED.format(number - 1)} is there already; expected fewer than "
                f"{MOST_EXPORTS} such folders; move old ones away"
            )
        return write_folder(
            good_ones(self.store.opinions(), min_stars), folder / _LIKED.format(number)
        )

    def _below(self, path: str) -> str:
        """Return a picture's path below its folder: a page tells nobody where it is served from."""
        for folder in self.gallery.folders:
            if Path(path).is_relative_to(folder):
                return Path(path).relative_to(folder).as_posix()
        return Path(path).name


def stars_in_words(opinion: Opinion | None) -> str:
    """Return an opinion in signs.

    Example:
        >>> stars_in_words(None)
        ''
    """
    if opinion is None:
        return ""
    thumb = {1: "👍", -1: "👎", 0: ""}[opinion.thumb]
    return f"{thumb} {'★' * (opinion.stars or 0)}".strip()


def download_link(data: bytes, name: str, words: str, kind: str = "text/csv") -> str:
    """Return a link as HTML that saves data which is in the page itself: no file is served.

    Args:
        data: What is saved.
        name: The file's name; letters, digits and points.
        words: What the link says, as HTML.
        kind: The media type.
    """
    text = base64.b64encode(data).decode("ascii")
    return f'<a class="download" download="{name}" href="data:{kind};base64,{text}">{words}</a>'


def training_command(folder: str | Path) -> str:
    """Return the command that trains a LoRA of the bundled model on an exported folder."""
    data = "data.params.train"
    return (
        "python main.py --base configs/adapters/demo-lora.yaml --train "
        f"{data}.target=ldm.data.captions.CaptionedFolder {data}.params.root={folder}"
    )
