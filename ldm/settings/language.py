"""Options of how prompts are written: their language and their grammar. Imports no torch."""

from __future__ import annotations

from typing import Any

from ldm.settings.option import option

SYNTAXES = ("compvis", "a1111", "compel")
EMPHASES = ("original", "no-norm", "ignore", "none")
PROMPT_LANGUAGES = ("auto", "en", "ja", "zh", "none")
Originals = tuple[tuple[str, str], ...]
"""Pairs of an English prompt and the text that it was translated from."""


def as_typed(text: str, originals: Originals) -> str:
    """Return what a prompt was translated from; the prompt itself if it was not."""
    return next((typed for english, typed in originals if english == text), text)


def prompt_lang_option() -> Any:
    """Make the field ``prompt_lang``."""
    return option(
        "auto",
        "the language of the prompts; auto translates Japanese and Chinese ones into English "
        "unless the model reads that language; ja and zh say which it is, translate for every "
        "model that reads English, and stop at a word that cannot be translated; en and none draw "
        "them as typed, where en warns of a model that cannot read them",
        choices=PROMPT_LANGUAGES,
        group="prompt",
    )


def glossary_option() -> Any:
    """Make the field ``glossary``."""
    return option(
        None,
        "your own translations, which come first: a UTF-8 text file with a Japanese or Chinese "
        "word, a tab and its English on each line",
        str,
        group="prompt",
        metavar="FILE",
    )


def translator_option() -> Any:
    """Make the field ``translator``."""
    return option(
        None,
        "a MarianMT model from Japanese or Chinese to English, for phrases with words that "
        "neither the glossary nor the dictionary knows",
        str,
        group="prompt",
        metavar="FOLDER",
        shown="none: such words are left out",
    )


def prompt_syntax_option() -> Any:
    """Make the field ``prompt_syntax``."""
    return option(
        "compvis",
        "how prompts are read: compvis takes them as text, as the reference does; a1111 reads "
        "AUTOMATIC1111's (cat:1.3), [cat:dog:0.5], AND and BREAK, and prompts of any length; "
        "compel reads cat++, (cat)1.3, .blend() and .and(); see docs/prompts.md",
        choices=SYNTAXES,
        infotext="Prompt syntax",
        group="prompt",
    )


def wildcards_option(group: str = "prompt") -> Any:
    """Make the field ``wildcards``."""
    return option(
        None,
        "draw prompts from templates, for each picture by its seed: __animals__ is a line of "
        "animals.txt in this folder, {a|b} is a or b; see docs/wildcards.md",
        str,
        group=group,
        metavar="FOLDER",
        shown="none: prompts are as they are typed",
    )


def clip_skip_option() -> Any:
    """Make the field ``clip_skip``."""
    return option(
        1,
        "the block of the text encoder that is used, counted from the last; 2 is what many models "
        "of drawings were trained with",
        minimum=1,
        infotext="Clip skip",
        group="prompt",
    )


def emphasis_option() -> Any:
    """Make the field ``emphasis``."""
    return option(
        "original",
        "what weights do in AUTOMATIC1111's syntax: original keeps the mean of the encoded "
        "prompt, no-norm does not; ignore leaves them without effect, none takes brackets for text",
        choices=EMPHASES,
        infotext="Emphasis",
        group="prompt",
    )


def notices_on_emphasis(emphasis: str, prompt_syntax: str) -> list[str]:
    """Say that an emphasis has no effect where the prompt's syntax knows none."""
    if emphasis == "original" or prompt_syntax == "a1111":
        return []
    return [
        f"--emphasis {emphasis} has no effect with --prompt_syntax {prompt_syntax}; it is for a1111"
    ]
