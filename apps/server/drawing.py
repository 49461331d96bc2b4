"""What the service draws with: a model, which requests fit together, and pictures of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from apps.server.refused import for_strangers
from ldm.pipelines.batches import check_length
from ldm.pipelines.known_words import notices_on_words
from ldm.pipelines.progress import (
    NoFace,
    Notice,
    Observer,
    Picture,
    Progress,
    notices_on_grammar,
    notices_on_length,
    notices_on_run,
)
from ldm.settings.generation import GenerationSettings, Txt2ImgSettings
from optimizedSD.web.worker import warnings_here

if TYPE_CHECKING:
    from PIL import Image

    from apps.server.settings import ServerSettings
    from ldm.pipelines.init_image import InitImage
    from ldm.pipelines.masks import Mask
    from ldm.pipelines.models import ModelChoice
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.request import Request


Finish = tuple[int, Callable[[], Picture]]
"""The index of a request that was drawn, and what makes its picture, in any thread; that raises
UserError if the request could not be drawn."""


class Drawer(Protocol):
    """What draws; each batch is drawn by one thread.

    Attributes:
        choice: The model.
        at_once: How many batches it draws at a time.
    """

    choice: ModelChoice
    at_once: int

    def prepare(
        self,
        settings: GenerationSettings,
        image: Image.Image | InitImage | None = None,
        mask: Image.Image | Mask | None = None,
    ) -> Request:
        """Complete and check a request; raises UserError."""

    def notices(self, request: Request) -> Iterator[str]:
        """Say what of a request is ignored, or may not be what was asked."""

    def group(self, request: Request) -> Hashable:
        """Return what requests that may be drawn together have in common."""

    def draw(self, requests: Sequence[Request], observer: Observer) -> Iterator[Finish]:
        """Draw requests of one group and one picture each; see ``Finish``.

        Args:
            requests: What to draw.
            observer: Called with progress, and with notices that hold for all of them. One that
                has a method ``check`` is asked all the time whether to go on; that raises.
        """


class PipelineDrawer:
    """Draws with a pipeline.

    Args:
        pipeline: The loaded model.
    """

    at_once = 1

    def __init__(self, pipeline: Pipeline) -> None:
        from ldm.pipelines.together import TextCache

        self.pipeline, self.choice, self._texts = pipeline, pipeline.choice, TextCache()

    def prepare(
        self,
        settings: GenerationSettings,
        image: Image.Image | InitImage | None = None,
        mask: Image.Image | Mask | None = None,
    ) -> Request:
        """Complete and check a request; raises UserError."""
        return self.pipeline.prepare(settings, image=image, mask=mask)

    def notices(self, request: Request) -> Iterator[str]:
        """Say what of a request is ignored, or may not be what was asked."""
        return said_of(request, getattr(self.pipeline.model.cond_stage_model, "tokenizer", None))

    def group(self, request: Request) -> Hashable:
        """Return what requests that may be drawn together have in common."""
        from ldm.pipelines.together import group_of

        return group_of(request)

    def draw(self, requests: Sequence[Request], observer: Observer) -> Iterator[Finish]:
        """Draw requests of one group and one picture each; see ``Finish``."""
        from ldm.pipelines.together import decode_together

        def progress(event: Notice | Progress) -> None:
            if isinstance(event, Progress):  # notices quote one another's prompts
                observer(event)
            elif isinstance(event, NoFace):  # of a request that is drawn alone, as picture 1
                seed = requests[0].settings.seed
                observer(Notice(f"seed {seed}: no face was found, and nothing redrawn"))

        watched = {"cancel": observer} if hasattr(observer, "check") else {}
        with warnings_here(observer):  # of samplers and adapters, which a group has in common
            yield from decode_together(
                self.pipeline, requests, observer=progress, cache=self._texts, **watched
            )


def said_of(request: Request, tokenizer: Any = None) -> Iterator[str]:
    """Say what of a request is ignored, or may not be what was asked.

    Args:
        request: What is to be drawn.
        tokenizer: The text encoder's, which knows what of a prompt is too long.
    """
    settings, prompts, choice = request.settings, request.prompts, request.choice
    image, plan = request.image, request.adapters
    said = [image and image.notice, image and image.mask and image.mask.notice]
    said += plan.notices if plan else ()
    sizes = {"size": request.size, "own_size": choice.size}
    told = [*notices_on_run(settings, prompts, steps=settings.ddim_steps, **sizes)]
    if settings.prompt_syntax == "compvis":
        mixtures = map(settings.mixture, (*request.negative_prompts, *prompts))
        texts = [text for mixture in mixtures for text, _ in mixture]
        told += notices_on_length(tokenizer, texts)
    told += notices_on_grammar(settings, prompts, request.attached)
    # Not that a prompt is empty: whoever sends one knows it, or asks for a variation.
    told += (notice for notice in notices_on_words(request) if notice.unknown)
    for text in (*filter(None, said), *(notice.text for notice in told)):
        yield for_strangers(text)


def model_for(settings: ServerSettings) -> ModelChoice:
    """Find the model that a command line names; its weights are not loaded yet.

    Raises:
        UserError: There is none.
    """
    from ldm.pipelines.models import find_model

    named = {name: getattr(settings, name) for name in ("config", "trust_config", "ckpt")}
    return find_model(Txt2ImgSettings(**named))


def load_drawer(
    choice: ModelChoice, settings: ServerSettings, observer: Observer
) -> PipelineDrawer:
    """Load a model.

    Raises:
        UserError: There is no such device, or the checkpoint lacks weights.
    """
    from ldm.pipelines.pipeline import Pipeline
    from ldm.programs.start import beginning

    with beginning():
        pipeline = Pipeline.load(
            choice, device=settings.device, use_ema=settings.use_ema, observer=observer
        )
    return PipelineDrawer(pipeline)


def single(settings: GenerationSettings) -> list[GenerationSettings]:
    """Return settings of one picture each that together draw what the given ones do.

    Picture i has the seeds that it has in the seed mode ``per-image``.

    Raises:
        UserError: The last picture's seed would be too large.
    """
    settings = replace(settings.with_seed(), seed_mode="per-image")
    count = settings.n_iter * settings.n_samples
    check_length(settings, settings.n_samples)
    alone = replace(settings, n_iter=1, n_samples=1)
    return [replace(alone, **settings.seeds(number)) for number in range(count)]
