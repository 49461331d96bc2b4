"""Options of the language that prompts are in. Imports no torch."""

from __future__ import annotations

from typing import Any

from ldm.settings.option import option

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
