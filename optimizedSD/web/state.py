"""The state of a run at one moment: plain values, whatever shows them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.pipelines.progress import Notice, Picture, Progress

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
    """

    seed: int
    status: str = "Waiting for the model."
    fraction: float = 0.0
    pictures: tuple[SavedPicture, ...] = ()
    notices: tuple[Notice, ...] = ()
    over: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it has been drawn, in seconds."""
        return time.monotonic() - self.began

    def waiting(self, ahead: int) -> RunState:
        """Return the state of a run that others are ahead of."""
        runs = "another run" if ahead == 1 else f"{ahead} other runs"
        return replace(self, status=f"Waiting for {runs} to end.")

    def begun(self) -> RunState:
        """Return the state of a run that has its turn."""
        return replace(self, status="Preparing the model.", began=time.monotonic())

    def after(self, event: Notice | Progress) -> RunState:
        """Return the state after a notice or a step."""
        if isinstance(event, Progress):
            fraction = event.done / event.total if event.total else 1.0
            return replace(self, fraction=fraction, status=self._progress(event))
        new = () if event in self.notices else (event,)
        return replace(self, notices=self.notices + new)

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
        seconds = f"{self.seconds:.0f} s"
        if not stopped:
            return replace(self, over=True, fraction=1.0, status=f"{self._count()} in {seconds}.")
        kept = f"{self._count()} kept" if self.pictures else "nothing was finished"
        reason = f", {why}" if why else ""
        return replace(self, over=True, status=f"Stopped after {seconds}{reason}: {kept}.")

    def _count(self) -> str:
        return f"{len(self.pictures)} picture{'s' * (len(self.pictures) != 1)}"

    def _progress(self, event: Progress) -> str:
        parts = [f"{event.done} of {event.total} steps"]
        if event.total_pictures > 1:
            parts.append(f"{event.pictures} of {event.total_pictures} pictures")
        if event.done:
            left = self.seconds * (event.total / event.done - 1)
            parts.append(f"about {left:.0f} s left")
        return ", ".join(parts)


def _place(saved: SavedPicture) -> tuple[int, int]:
    return saved.place
