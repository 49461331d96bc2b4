"""The state of a run at one moment: plain values, whatever shows them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from ldm.pipelines.progress import Notice, Picture, Progress


@dataclass(frozen=True)
class SavedPicture:
    """A picture in its file.

    Attributes:
        path: The file.
        caption: The file's name and the picture's seed.
        parameters: The text stored in the file.
    """

    path: Path
    caption: str
    parameters: str


@dataclass(frozen=True)
class RunState:
    """How far a run has come and what it has drawn.

    Attributes:
        seed: The run's seed.
        status: One line on its progress.
        fraction: The part of it that is done, 0 to 1.
        pictures: The pictures saved so far.
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

    def with_picture(self, picture: Picture, path: Path) -> RunState:
        """Return the state with one more picture, saved at ``path``."""
        caption = f"{path.name}, seed {picture.seed}"
        saved = SavedPicture(path, caption, picture.parameters)
        return replace(self, pictures=(*self.pictures, saved))

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
