"""Load a model for the studio, at its start and when another is chosen from the menu.

The one before is let go of first: most machines hold one. A model that cannot be loaded costs
nobody the studio, as the one before is then loaded again.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.studio.checkpoints import Checkpoint, described
from apps.studio.words import say
from ldm.errors import UserError, in_words
from ldm.pipelines.progress import Observer, log_events
from optimizedSD.web.background import Stopped

if TYPE_CHECKING:
    from apps.studio.settings import StudioSettings
    from ldm.pipelines.models import ModelChoice
    from ldm.pipelines.pipeline import Pipeline
    from optimizedSD.web.worker import Desk

Load = Callable[["ModelChoice", Observer], "Pipeline"]


def load_model(flags: StudioSettings, choice: ModelChoice, observer: Observer) -> Pipeline:
    """Load a model as the command line asks for.

    Args:
        flags: The command line.
        choice: The model.
        observer: Told of what its file lacks.

    Raises:
        UserError: It cannot be loaded.
    """
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.staging import Staging

    return Pipeline.load(
        choice,
        device=flags.device,
        use_ema=flags.use_ema,
        staging=Staging() if flags.low_memory else None,
        observer=observer,
    )


@dataclass(frozen=True)
class Loading:
    """A job: another model takes the place of the one that is loaded.

    Attributes:
        entry: What was chosen from the menu.
        load: Loads it.
        changed: Called with the queue when another model is there.
        language: The visitor's.
    """

    entry: Checkpoint
    load: Load
    changed: Callable[[Any], None] | None = None
    language: str = "en"
    seed: int = 0

    def do(self, desk: Desk) -> None:
        """Load it; raises UserError where it cannot be, with the one before back in its place."""
        queue, before = desk.worker, desk.worker.pipeline.choice
        if before.ckpt_path == self.entry.path:
            return
        choice = described(self.entry)  # raises while the other one is still there
        desk.show(desk.state.doing(say(self.language, "loading", name=self.entry.name)))
        release(queue.pipeline)
        try:
            queue.pipeline = self.load(choice, desk.observe)
        except Exception as error:
            queue.pipeline = self.load(before, log_events)
            if isinstance(error, Stopped):  # by who chose it
                raise
            text = str(error) if isinstance(error, UserError) else in_words(error)
            raise UserError(f"{text}; {before.name} is loaded again") from error
        if self.changed is not None:
            self.changed(queue)


def release(pipeline: Pipeline) -> None:
    """Give back the memory of a model that nobody draws with any more.

    What describes it stays: visitors look at it until the next one is there.
    """
    import torch

    pipeline.model.to("meta")
    if pipeline.staged is not None:
        pipeline.staged = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
