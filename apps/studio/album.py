"""The studio's gallery: pages of pictures, their recipes in lines, the bin, and drawing again.

A browser is shown numbers and names; which file is meant is looked up here, and nothing outside
the studio's folder is ever shown, moved or drawn again. Imports no torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.studio.opinions import TRAINING
from ldm.errors import UserError
from ldm.gallery.bin import Bin, Thrown
from ldm.gallery.index import Gallery, Shown
from ldm.legible import legible, quoted
from ldm.pipelines.progress import Notice
from ldm.programs.naming import PromptNaming
from ldm.programs.output import OutputFolder
from ldm.settings.generation import GenerationSettings
from optimizedSD.web.drawing import drawn_by
from optimizedSD.web.limits import Limits

if TYPE_CHECKING:
    from ldm.pipelines.models import ModelChoice
    from ldm.pipelines.request import Request
    from optimizedSD.web.worker import Desk

ON_A_PAGE = 24
LONGEST_SEARCH = 500  # characters


@dataclass(frozen=True)
class Page:
    """A page of the gallery.

    Attributes:
        shown: Its pictures, the newest first.
        number: Which page it is, from 0.
        count: How many pictures the search finds in all.
    """

    shown: Sequence[Shown]
    number: int
    count: int

    @property
    def pages(self) -> int:
        """How many pages there are, one at least."""
        return max(1, -(-self.count // ON_A_PAGE))


class Album:
    """The pictures of the studio.

    Args:
        outdir: The studio's folder.
    """

    def __init__(self, outdir: str | Path) -> None:
        self.gallery = Gallery([outdir], aside=(TRAINING,))
        self.bin = Bin(self.gallery)

    def page(self, words: str, number: int = 0) -> Page:
        """Return a page of what a search finds; a number beyond the last is the last.

        Raises:
            UserError: The search is too long.
        """
        if len(words) > LONGEST_SEARCH:
            raise UserError(
                f"a search of {len(words)} characters was given; expected at most "
                f"{LONGEST_SEARCH}; shorten it"
            )
        number = max(number, 0)
        shown, count = self.gallery.find(words, start=number * ON_A_PAGE, count=ON_A_PAGE)
        if not shown and count:
            number = (count - 1) // ON_A_PAGE
            shown, count = self.gallery.find(words, start=number * ON_A_PAGE, count=ON_A_PAGE)
        return Page(shown, number, count)

    def lines(self, path: str | Path) -> list[tuple[str, str]]:
        """Return a picture's recipe, entry by entry, and when and as what it was written.

        Raises:
            UserError: It is not in the gallery.
        """
        shown = self.gallery.show(path)
        when = datetime.fromtimestamp(shown.time).astimezone().strftime("%Y-%m-%d %H:%M")
        entries = {**shown.entries, "written": when}
        return [(key, legible(str(value))) for key, value in entries.items() if str(value)]

    def throw(self, path: str | Path) -> Thrown:
        """Move a picture into the bin.

        Raises:
            UserError: It is not in the gallery, or cannot be moved.
        """
        return self.bin.throw(path)

    def thrown(self) -> list[tuple[str, str]]:
        """Return what is in the bin, the latest first: what a list shows, and the name of each."""
        return [
            (f"{each.origin.name} ({_time(each.time)})", each.name) for each in self.bin.thrown()
        ]

    def thrown_picture(self, name: str) -> Path:
        """Return the file of a picture in the bin.

        Raises:
            UserError: It is not there.
        """
        found = next((each.path for each in self.bin.thrown() if each.name == name), None)
        if found is None:
            raise UserError(f"{quoted(name)} is not in the bin; expected one of those shown there")
        return found


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def request_again(
    album: Album,
    path: str | Path,
    choice: ModelChoice,
    limits: Limits,
    fixed: Mapping[str, Any],
) -> Request:
    """Return what draws a picture again with the model that is loaded.

    Args:
        album: The picture is in it.
        path: Its file.
        choice: The model.
        limits: What a run may ask for.
        fixed: Settings that the operator fixed for every run.

    Raises:
        UserError: Its recipe does not suffice, or is more than the limits allow.
    """
    known = {k: v for k, v in fixed.items() if k in GenerationSettings.__dataclass_fields__}
    given = {**known, "ckpt": str(choice.ckpt_path), "config": str(choice.config_path)}
    request = album.gallery.redraw(path, **given)
    height, width = request.size
    limits.check(request.settings)
    limits.check_size(request.settings, width, height)
    return replace(request, choice=choice)


@dataclass(frozen=True)
class Redrawing:
    """A job: a picture is drawn again.

    Attributes:
        request: As ``request_again`` returned it.
        outdir: Where it goes.
        language: The visitor's.
    """

    request: Request
    outdir: Path
    language: str = "en"

    @property
    def seed(self) -> int:
        """The run's."""
        return self.request.settings.seed

    def do(self, desk: Desk) -> None:
        """Draw, save and show it; raises UserError for what cannot be drawn or saved."""
        request = self.request
        output = OutputFolder(self.outdir, request.settings.format, PromptNaming(()))
        output.check(request.prompts)
        differs = request.model_notice()
        for text in [*request.notices, *filter(None, [differs])]:
            desk.observe(Notice(text, warning=True))
        with contextlib.closing(drawn_by(desk, request)) as drawn:
            for picture in drawn:
                output.take(picture)
                desk.take(picture, output.saved[-1])
