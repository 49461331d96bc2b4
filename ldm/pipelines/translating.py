"""Bring a run's prompts into a language that its model reads. Imports no torch unless it must.

Japanese and Chinese are translated, and only into English. ``ldm.translation`` does it; here is
decided when, and what becomes of the settings: prompts, negative prompt, and the words of an edit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.pipelines.original_prompts import PROMPTS
from ldm.settings.generation import GenerationSettings
from ldm.translation.detect import LANGUAGES, language_of

if TYPE_CHECKING:
    from ldm.translation.translate import Translation, Translator

Settings = TypeVar("Settings", bound=GenerationSettings)
_SHOWN = 20  # words that are named in one notice
# What divides the words of an edit: "snowy=2,house=-1", "cake|cake", "0.8,house=0.4".
_WORDS = re.compile(r"([^,、，|=:]+)")
# Fields that hold words of an edit, and those that hold several prompts.
_WORDS_OF_AN_EDIT = ("reweight", "cross_replace_steps", "blend")
_LISTS = ("also",)
_DRAWN = ("sprompt", *_LISTS)  # beside the prompts


def in_models_language(
    settings: Settings, prompts: Sequence[str], languages: Sequence[str]
) -> tuple[Settings, list[str]]:
    """Return settings and prompts as the model is to read them.

    Args:
        settings: The run's, complete.
        prompts: One per picture of an iteration.
        languages: Those that the model reads.

    Raises:
        UserError: The glossary or the translation model cannot be used; or a word that is unknown
            was given with ``--prompt_lang ja`` or ``zh``.
    """
    translator = translator_of(settings)
    texts = [*prompts, *_texts(settings, (*PROMPTS, *_WORDS_OF_AN_EDIT, *_LISTS))]
    said = settings.prompt_lang if settings.prompt_lang in LANGUAGES else None
    # A small model may have learned few Japanese wordings: with "ja" it gets the English it reads.
    read = set(languages) - ({said} if "en" in languages else set())
    unread = {said or found for found in map(language_of, texts) if found} - read
    if not unread:
        return settings, list(prompts)
    if settings.prompt_lang in ("en", "none"):
        return _as_typed(settings, unread), list(prompts)
    # A source and its targets are in one language; other prompts each have their own.
    drawn = [*prompts, *_texts(settings, _DRAWN)] if hasattr(settings, "sprompt") else []
    shared = "zh" if "zh" in map(language_of, drawn) else "ja"
    record = _Record(translator(), unread, said, shared)
    prompts = [record.prompt(text) for text in prompts]
    settings = replace(settings, **_translated(settings, record))
    if record.left_out and said:
        raise UserError(
            f"--prompt_lang {said} was given, and these words of the prompt cannot be translated: "
            f"{_listed(record.left_out)}; expected words that the dictionary knows; write them in "
            "English, put them into a --glossary, or give a --translator"
        )
    notices = [*settings.on_language]
    if record.left_out:
        notices.append(
            f"these words of the prompt are not known and were left out: "
            f"{_listed(record.left_out)}; write them in English, put them into a --glossary, or "
            "give a --translator"
        )
    pairs = (*settings.originals, *record.pairs.items())
    return replace(settings, originals=pairs, on_language=tuple(notices)), prompts


class _Record:
    """Translates, and keeps what was translated from what.

    Args:
        translator: What translates.
        unread: Codes of the languages that the model does not read.
        said: The code of the language that all texts are in; None tells each one's by its letters.
        shared: The code of what Japanese and Chinese both write: what the prompts are in.

    Attributes:
        pairs: Originals by their English.
        left_out: Words that nobody knew.
    """

    def __init__(
        self, translator: Translator, unread: set[str], said: str | None, shared: str
    ) -> None:
        self.translator = translator
        self.unread = unread
        self.said, self.shared = said, shared
        self.pairs: dict[str, str] = {}
        self.left_out: dict[str, None] = {}

    def prompt(self, text: str) -> str:
        """Return a prompt in English."""
        english = self._noted(self.translator, text)
        if english != text:
            self.pairs.setdefault(english, text)
        return english

    def words(self, text: str) -> str:
        """Return words of an edit in English, with their numbers as they are."""
        return _WORDS.sub(lambda word: self._noted(self.translator.word, word[0]), text)

    def _noted(self, translate: Callable[[str, str | None], Translation], text: str) -> str:
        """Return a text in English if the model does not read it; note words that nobody knew."""
        found = language_of(text, self.shared)
        language = found and (self.said or found)
        if language not in self.unread:
            return text
        made = translate(text, language)
        self.left_out.update(dict.fromkeys(made.left_out))
        return made.english


def _texts(settings: GenerationSettings, names: Iterable[str]) -> list[str]:
    """Return the texts in fields of settings that it has."""
    found = (getattr(settings, name, None) for name in names)
    return [text for value in found if value for text in _as_list(value)]


def _translated(settings: GenerationSettings, record: _Record) -> dict[str, object]:
    """Return the settings that hold texts, in English."""
    changed: dict[str, object] = {}

    def change(names: Iterable[str], into: Callable[[Any], object]) -> None:
        for name in names:
            if value := getattr(settings, name, None):
                changed[name] = into(value)

    change(PROMPTS, record.prompt)
    change(_WORDS_OF_AN_EDIT, record.words)
    change(_LISTS, lambda texts: tuple(map(record.prompt, texts)))
    return changed


def _as_list(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


def translator_of(settings: Any) -> Callable[[], Translator]:
    """Check what settings name for translating; return what makes the translator of it.

    Args:
        settings: With the fields ``glossary`` and ``translator``.

    Raises:
        UserError: One of them cannot be used.
    """
    glossary, machine, machine_reads = {}, None, "ja"
    if settings.glossary is not None:
        from ldm.translation.glossary import read_glossary

        glossary = read_glossary(settings.glossary)
    if settings.translator is not None:
        from ldm.translation.marian import check_folder, marian, source_language

        check_folder(folder := settings.translator)
        machine_reads = source_language(folder)

        def machine(text: str) -> str:
            return marian(folder)(text)  # loaded when the first phrase needs it

    def make() -> Translator:
        # Not before a prompt is to be translated: no other has any use for a dictionary.
        from ldm.translation.translate import Translator

        return Translator(glossary, machine, machine_reads)

    return make


def _as_typed(settings: Settings, unread: set[str]) -> Settings:
    """Return settings whose prompts the model cannot read; ``en`` says so, ``none`` does not."""
    if settings.prompt_lang == "none":
        return settings
    names = " and ".join(LANGUAGES[code] for code in sorted(unread))
    text = (
        f"--prompt_lang en draws the prompt as it is typed, and it has {names} letters, which this "
        "model does not read; --prompt_lang auto translates them"
    )
    return replace(settings, on_language=(*settings.on_language, text))


def _listed(words: Sequence[str] | dict[str, None]) -> str:
    shown = ", ".join(map(quoted, list(words)[:_SHOWN]))
    return f"{shown} and {len(words) - _SHOWN} more" if len(words) > _SHOWN else shown
