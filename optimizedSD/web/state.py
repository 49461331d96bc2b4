"""The state of a run at one moment: plain values, whatever shows them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.pipelines.progress import Notice, Picture, Progress
from optimizedSD.web.words import said

if TYPE_CHECKING:
    from optimizedSD.web.word_maps import Looks


@dataclass(frozen=True)
class SavedPicture:
    """A picture in its file.

    Attributes:
        path: The file.
        seed: The picture's.
        parameters: The text stored in the file.
        place: Its number in the run, and which of the run's prompts it has: the order to show.
        looks: Where its words look, if that was watched.
    """

    path: Path
    seed: int
    parameters: str
    place: tuple[int, int] = (0, 0)
    looks: Looks | None = None

    @property
    def caption(self) -> str:
        """The file's name and the picture's seed."""
        return f"{self.path.name}, seed {self.seed}"


@dataclass(frozen=True)
class RunState:
    """How far a run has come and what it has drawn.

    Attributes:
        seed: The run's seed.
        status: One line on its progress.
        fraction: The part of it that is done, 0 to 1.
        pictures: The pictures saved so far, those of one noise beside each other.
        notices: What the user should know, each once.
        over: Whether the run has ended.
        began: When it began to draw, in seconds of ``time.monotonic``.
        language: Of the status, one of ``setting_words.LANGUAGES``.
        preview: What is being drawn, as a ``data:`` address; empty if there is nothing to see.
    """

    seed: int
    status: str = ""
    fraction: float = 0.0
    pictures: tuple[SavedPicture, ...] = ()
    notices: tuple[Notice, ...] = ()
    over: bool = False
    began: float = field(default_factory=time.monotonic)
    language: str = "en"
    preview: str = ""

    @property
    def seconds(self) -> float:
        """How long it has been drawn, in seconds."""
        return time.monotonic() - self.began

    def waiting(self, ahead: int) -> RunState:
        """Return the state of a run that others are ahead of."""
        runs = self._said("run") if ahead == 1 else self._said("runs", count=ahead)
        return replace(self, status=self._said("place", place=ahead + 1, runs=runs))

    def begun(self) -> RunState:
        """Return the state of a run that has its turn."""
        return replace(self, status=self._said("preparing"), began=time.monotonic())

    def after(self, event: Notice | Progress) -> RunState:
        """Return the state after a notice or a step."""
        if isinstance(event, Progress):
            fraction = event.done / event.total if event.total else 1.0
            return replace(self, fraction=fraction, status=self._progress(event))
        new = () if event in self.notices else (event,)
        return replace(self, notices=self.notices + new)

    def doing(self, status: str) -> RunState:
        """Return the state while something is done that has no steps."""
        return replace(self, status=status)

    def seen(self, preview: str) -> RunState:
        """Return the state with another preview, a ``data:`` address."""
        return replace(self, preview=preview)

    def with_picture(self, picture: Picture, path: Path, looks: Looks | None = None) -> RunState:
        """Return the state with one more picture, saved at ``path``."""
        place = picture.place.index, picture.number
        saved = SavedPicture(path, picture.seed, picture.parameters, place, looks)
        return replace(self, pictures=tuple(sorted((*self.pictures, saved), key=_place)))

    def ended(self, *, stopped: bool, why: str = "") -> RunState:
        """Return the state after the run's end.

        Args:
            stopped: Before all pictures were drawn.
            why: Why it was, if nobody asked for it.
        """
        seconds, count = f"{self.seconds:.0f}", len(self.pictures)
        pictures = self._said("picture_count" if count == 1 else "picture_counts", count=count)
        over = replace(self, over=True, preview="")
        if not stopped:
            done = self._said("done", pictures=pictures, seconds=seconds)
            return replace(over, fraction=1.0, status=done)
        kept = self._said("kept", pictures=pictures) if count else self._said("nothing")
        why = f", {why}" if why else ""
        return replace(over, status=self._said("stopped", seconds=seconds, why=why, kept=kept))

    def _progress(self, event: Progress) -> str:
        parts = [self._said("steps", done=event.done, total=event.total)]
        if event.total_pictures > 1:
            parts.append(self._said("of_pictures", done=event.pictures, total=event.total_pictures))
        if event.done:
            left = self.seconds * (event.total / event.done - 1)
            parts.append(self._said("left", seconds=f"{left:.0f}"))
        return ", ".join(parts)

    def _said(self, key: str, **values: object) -> str:
        return said(key, self.language, **values)


def _place(saved: SavedPicture) -> tuple[int, int]:
    return saved.place
