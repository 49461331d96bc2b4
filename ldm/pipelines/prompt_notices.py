"""What is to be said of a run's prompts and their grammar, before anything is drawn. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from ldm.legible import quoted
from ldm.prompts.a1111 import Prompt, parse_a1111
from ldm.prompts.compel_grammar import CompelPrompt, parse_compel
from ldm.prompts.emphasis import BREAK, pieces
from ldm.prompts.looks import a1111_parts, broken_names, compel_parts
from ldm.settings.generation import GenerationSettings

_MOST = 5  # parts that are named


def grammar_notices(
    settings: GenerationSettings, prompts: Sequence[str], attached: Collection[str] = ()
) -> Iterator[str]:
    """Yield what of the prompts' grammar is not done.

    Args:
        settings: The run's.
        prompts: Those that it draws.
        attached: Tags, as they are written, whose files are attached.

    Raises:
        UserError: A prompt cannot be read.
    """
    texts = list(dict.fromkeys([*prompts, settings.negative_prompt]))
    broken = [part for text in texts for part in broken_names(text, settings.prompt_syntax)]
    if broken and settings.takes_tags:
        yield (
            f"these parts of the prompt name no LoRA as they stand, and are drawn as words: "
            f"{_listed(dict.fromkeys(broken))}; expected such as <lora:style:0.8>"
        )
    if settings.prompt_syntax == "compvis":
        yield from _of_plain(texts, attached)
        return
    read = [_parsed(settings, text) for text in texts]
    tags = dict.fromkeys(tag.written for each in read for tag in each.tags)
    missing = [tag for tag in tags if tag not in attached]
    if missing:
        yield f"these parts of the prompt name files that are not attached: {_listed(missing)}"
    if settings.prompt_syntax == "a1111":
        yield from _of_a1111(settings, read)


def rows_of(settings: GenerationSettings, prompt: str) -> int:
    """Return how many rows the UNet computes for a picture of a prompt.

    Raises:
        UserError: The prompt cannot be read.
    """
    read = _parsed(settings, prompt)
    if isinstance(read, CompelPrompt):
        return 1 if settings.scale == 1.0 else 2
    guided = settings.scale != 1.0 or len(read.parts) > 1 or read.parts[0].weight != 1.0
    return len(read.parts) + guided


def _parsed(settings: GenerationSettings, text: str) -> Prompt | CompelPrompt:
    if settings.prompt_syntax == "compel":
        return parse_compel(text)
    return parse_a1111(text, settings.ddim_steps)


def _of_plain(texts: Sequence[str], attached: Collection[str]) -> Iterator[str]:
    """Say once, of all prompts together, what looks like a grammar."""
    for syntax, parts_of in (("a1111", a1111_parts), ("compel", compel_parts)):
        parts = [part for text in texts for part in parts_of(text) if part not in attached]
        if parts:
            yield (
                f"these parts of the prompt are drawn as plain text: {_listed(parts)}; "
                f"--prompt_syntax {syntax} reads them"
            )
            return


def _of_a1111(settings: GenerationSettings, read: Sequence[Prompt]) -> Iterator[str]:
    if len(parse_a1111(settings.negative_prompt, 1).parts) > 1:
        yield "AND in --negative_prompt is a word, as in AUTOMATIC1111: what it joins is one prompt"
    if settings.emphasis == "none":
        return
    texts = {text for prompt in read for part in prompt.parts for _, text in part.schedule}
    inside = [p for text in texts for p in pieces(text) if "BREAK" in p.text and p != BREAK]
    if inside:
        yield (
            "BREAK inside brackets is a word, as in AUTOMATIC1111: close the brackets before it, "
            "and open them again behind it"
        )


def _listed(parts: Collection[str]) -> str:
    shown = ", ".join(quoted(part) for part in islice(parts, _MOST))
    return f"{shown} and {len(parts) - _MOST} more" if len(parts) > _MOST else shown
