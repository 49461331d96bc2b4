"""What a page shows at one moment of a run: plain values, for any page to lay out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from ldm.pipelines.progress import Notice, Picture, Progress


@dataclass(frozen=True)
class Saved:
    """A picture in its file.

    Attributes:
        path: The file.
        caption: A few words under it.
        parameters: The text stored in it.
    """

    path: Path
    caption: str
    parameters: str


@dataclass(frozen=True)
class View:
    """What there is to show.

    Attributes:
        seed: The run's.
        status: One line on how far it is.
        share: How much of it is done, 0 to 1.
        pictures: What has been saved.
        notices: What the user should know, each once.
        over: Whether this is the last view.
        began: When it began, in seconds of ``time.monotonic``.
    """

    seed: int
    status: str = "Waiting for the model."
    share: float = 0.0
    pictures: tuple[Saved, ...] = ()
    notices: tuple[Notice, ...] = ()
    over: bool = False
    began: float = field(default_factory=time.monotonic)

    def after(self, event: Notice | Progress) -> View:
        """Return the view after something was told."""
        if isinstance(event, Progress):
            share = event.done / event.total if event.total else 1.0
            return replace(self, share=share, status=self._progress(event))
        new = () if event in self.notices else (event,)
        return replace(self, notices=self.notices + new)

    def with_picture(self, picture: Picture, path: Path) -> View:
        """Return the view with one picture more."""
        caption = f"{path.name}, seed {picture.seed}"
        saved = Saved(path, caption, picture.parameters)
        return replace(self, pictures=(*self.pictures, saved))

    def ended(self, *, stopped: bool) -> View:
        """Return the view of a run that is over."""
        seconds = f"{time.monotonic() - self.began:.0f} s"
        if not stopped:
            return replace(self, over=True, share=1.0, status=f"{self._count()} in {seconds}.")
        kept = f"{self._count()} kept" if self.pictures else "nothing was finished"
        return replace(self, over=True, status=f"Stopped after {seconds}: {kept}.")

    def _count(self) -> str:
        return f"{len(self.pictures)} picture{'s' * (len(self.pictures) != 1)}"

    def _progress(self, event: Progress) -> str:
        parts = [f"{event.done} of {event.total} steps"]
        if event.total_pictures > 1:
            parts.append(f"{event.pictures} of {event.total_pictures} pictures")
        if event.done:
            left = (time.monotonic() - self.began) * (event.total / event.done - 1)
            parts.append(f"about {left:.0f} s left")
        return ", ".join(parts)
