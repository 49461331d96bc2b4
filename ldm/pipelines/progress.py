"""What a run reports and what it yields: values for a program to show.

Notices are sentences for the user; some are known before the first step. Imports no torch.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ldm.legible import legible, quoted
from ldm.pipelines.batches import Place
from ldm.settings.generation import GenerationSettings

if TYPE_CHECKING:  # --help works without NumPy
    import numpy as np

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """A sentence for the user; a warning means that something may not be what was asked.

    It is made legible, as it may quote a file, and pages show it too.

    Attributes:
        text: The sentence.
        warning: Whether it is a warning.
        unknown: The words that it says the model does not know, for who says it in other words.
    """

    text: str
    warning: bool = False
    unknown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", legible(self.text))


@dataclass(frozen=True)
class NoFace(Notice):
    """That a picture has no face that could be redrawn."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        done: Steps taken, summed over pictures.
        total: Steps of the whole run, summed over pictures.
        pictures: Pictures denoised.
        total_pictures: Pictures of the whole run.
    """

    done: int
    total: int
    pictures: int
    total_pictures: int


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished picture.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, watermarked where that is possible: what to save.
        plain: The same before the watermark; the grid is made of these.
        prompt: The text that it was drawn from.
        seed: The seed to report: the run's, or the picture's own in per-image mode.
        place: Where in its run it was drawn.
        parameters: The text to store in the file; ``--from-image`` redraws the picture from it.
        flagged: Whether the safety checker blacked it out.
        number: Which of the run's prompts it has, where pictures are edits of the first's; else 0.
        drawn: Whether a model drew it; else its file is not marked as a synthetic picture.
        opacity: uint8 (H, W), where the picture that it was made from was not opaque.
    """

    pixels: np.ndarray
    plain: np.ndarray
    prompt: str
    seed: int
    place: Place
    parameters: str
    flagged: bool = False
    number: int = 0
    drawn: bool = True
    opacity: np.ndarray | None = None

    @property
    def whole(self) -> np.ndarray:
        """The picture for a file: ``pixels``, or uint8 (H, W, 4) with its opacity."""
        if self.opacity is None:
            return self.pixels
        import numpy as np

        return np.dstack([self.pixels, self.opacity])


Observer = Callable[[Notice | Progress], None]


def log_events(event: Notice | Progress) -> None:
    """Pass notices to logging: the default for callers without their own observer."""
    if isinstance(event, Notice):
        logger.log(logging.WARNING if event.warning else logging.INFO, event.text)


# What every prompt has that ``ldm.prompts.looks`` takes for grammar.
_MAY_BE_GRAMMAR = re.compile(r"[)\]>]|\+\+|--|AND|BREAK")
FAR_ABOVE = 4  # times the model's own number of pixels
SHOWN = 500  # letters of a prompt and of its translation
LONGEST_CUT = 500  # letters of a prompt's unused end that are shown


def notices_before(
    request: Any, model: Any, prompts: Sequence[str], steps: int
) -> Iterator[Notice]:
    """Say of any run what the user should know before its first step.

    Args:
        request: The run's ``ldm.pipelines.request.Request``.
        model: The hub.
        prompts: Those that it draws.
        steps: Steps that each picture takes.
    """
    settings, image = request.settings, request.image
    if image is not None:
        yield from map(Notice, image.notices)
    sizes = {"size": request.size, "own_size": request.choice.size}
    yield from notices_on_run(settings, prompts, steps=steps, **sizes)
    if settings.prompt_syntax == "compvis":
        texts = [*request.negative_prompts, *prompts]
        encoded = [text for prompt in texts for text, _ in settings.mixture(prompt)]
        yield from notices_on_length(getattr(model.cond_stage_model, "tokenizer", None), encoded)
    yield from notices_on_grammar(settings, prompts, request.attached)


def notices_on_run(
    settings: GenerationSettings,
    prompts: Sequence[str],
    *,
    size: tuple[int, int],
    own_size: int,
    steps: int,
) -> Iterator[Notice]:
    """Warn about consequences of the settings, the size and the number of steps.

    Args:
        settings: The run's.
        prompts: Those that it draws.
        size: Height and width of the pictures, in pixels.
        own_size: The side in pixels that the model was made for.
        steps: Steps that each picture takes.
    """
    yield from notices_on_language(settings)
    for text in settings.notices(prompts):
        yield Notice(text, warning=True)
    height, width = size
    # Tiles have the model's own size.
    if height * width > FAR_ABOVE * own_size**2 and settings.task != "tiles":
        text = (
            f"{width}x{height} is far above the {own_size}x{own_size} pixels that "
            "the model was made for: drawing takes long, and objects may appear more than once"
        )
        yield Notice(text, warning=True)
    if steps == 0:
        strength = f"--strength {settings.strength} of {settings.ddim_steps}"
        yield Notice(f"{strength} steps leaves no steps to take: nothing is redrawn.")


def notices_on_language(settings: Any) -> Iterator[Notice]:
    """Say what was translated into what, and what is to be said of the prompts' language.

    Args:
        settings: The run's, with the notes of ``ldm.pipelines.translating``.
    """
    for english, original in settings.originals:
        yield Notice(f"Drawn in English: {quoted(english, SHOWN)} for {quoted(original, SHOWN)}")
    for text in settings.on_language:
        yield Notice(text, warning=True)


def notices_on_grammar(
    settings: GenerationSettings, prompts: Sequence[str], attached: Collection[str] = ()
) -> Iterator[Notice]:
    """Say what of the prompts' grammar is not done.

    Args:
        settings: The run's.
        prompts: Those that it draws.
        attached: Tags, as they are written, whose files are attached.
    """
    texts = (*prompts, settings.negative_prompt)
    if settings.prompt_syntax != "compvis" or any(map(_MAY_BE_GRAMMAR.search, texts)):
        from ldm.pipelines.prompt_notices import grammar_notices

        for text in grammar_notices(settings, prompts, attached):
            yield Notice(text, warning=True)


def notices_on_length(tokenizer: Any, texts: Sequence[str]) -> Iterator[Notice]:
    """Report the end of each text that the text encoder cuts off.

    Args:
        tokenizer: The text encoder's; one that cannot say what it cuts is skipped.
        texts: What is encoded; repeated ones count once.
    """
    if not hasattr(tokenizer, "truncated"):
        return
    limit = f"{tokenizer.max_length} tokens (with start and end)"
    for text in dict.fromkeys(texts):
        if cut := tokenizer.truncated(text):
            rest = f" and {len(cut) - LONGEST_CUT} more letters" if len(cut) > LONGEST_CUT else ""
            said = f"a prompt is longer than {limit}; its end is not used: "
            yield Notice(f"{said}{cut[:LONGEST_CUT]!r}{rest}", warning=True)
