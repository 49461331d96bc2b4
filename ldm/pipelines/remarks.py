"""What a user should know of a run before its first step. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ldm.pipelines.events import Notice
from ldm.pipelines.settings import GenerationSettings

FAR_ABOVE = 4  # times the model's own number of pixels
LONGEST_CUT = 500  # letters of a prompt's unused end that are shown


def remarks_on_run(
    settings: GenerationSettings,
    prompts: Sequence[str],
    *,
    size: tuple[int, int],
    own_size: int,
    steps: int,
) -> Iterator[Notice]:
    """Say what the settings, the size and the number of steps lead to.

    Args:
        settings: The run's.
        prompts: Those that it draws.
        size: Height and width of the pictures, in pixels.
        own_size: The side in pixels that the model was made for.
        steps: Steps that each picture takes.
    """
    for text in settings.remarks(prompts):
        yield Notice(text, warning=True)
    height, width = size
    if height * width > FAR_ABOVE * own_size**2:
        text = (
            f"{width}x{height} is far above the {own_size}x{own_size} pixels that "
            "the model was made for: it takes long, and things may appear more than once"
        )
        yield Notice(text, warning=True)
    if steps == 0:
        strength = f"--strength {settings.strength} of {settings.ddim_steps}"
        yield Notice(f"{strength} steps leaves none to take: nothing is drawn anew.")


def remarks_on_length(tokenizer: Any, texts: Sequence[str]) -> Iterator[Notice]:
    """Name the end of each text that the text encoder will not see.

    Args:
        tokenizer: The text encoder's; one that cannot say what it cuts is not asked.
        texts: What is encoded; repeated ones count once.
    """
    if not hasattr(tokenizer, "truncated"):
        return
    limit = f"{tokenizer.max_length} tokens (with start and end)"
    for text in dict.fromkeys(texts):
        if cut := tokenizer.truncated(text):
            rest = f" and {len(cut) - LONGEST_CUT} letters more" if len(cut) > LONGEST_CUT else ""
            said = f"a prompt is longer than {limit}; this end of it is not used: "
            yield Notice(f"{said}{cut[:LONGEST_CUT]!r}{rest}", warning=True)
