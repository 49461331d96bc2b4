"""What pages say is there in every language, fits what it is said of, and names no flag."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

from ldm.settings.option import options_of
from optimizedSD.web import setting_words
from optimizedSD.web.choice_words import CHOICE_WORDS
from optimizedSD.web.edit_fields import edit_fields
from optimizedSD.web.fields import fields_of
from optimizedSD.web.page import IMG2IMG, INPAINT, SWAP, TXT2IMG
from optimizedSD.web.setting_words import LANGUAGES, SETTING_WORDS
from optimizedSD.web.words import SCRIPT_TEXTS, TEXTS, language_of, said, translations

WEB = Path(setting_words.__file__).parent
PAGES = [TXT2IMG, IMG2IMG, INPAINT, SWAP]
FLAG = re.compile(r"(?<![\w-])--\w|\beps\b|compvis", re.IGNORECASE)


def names_in(text):
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("texts", [TEXTS, SCRIPT_TEXTS], ids=["pages", "script"])
def test_a_text_is_there_in_every_language_with_the_same_names(texts):
    for key, every in texts.items():
        assert len(every) == len(LANGUAGES) and all(every), key
        assert len({frozenset(names_in(text)) for text in every}) == 1, key


def test_settings_are_explained_in_every_language_or_in_none():
    said_of = [*SETTING_WORDS.values()]
    assert all(all(words.label) for words in said_of)
    assert all(all(words.info) or not any(words.info) for words in said_of)
    assert all(all(said) for values in CHOICE_WORDS.values() for said in values.values())


def test_no_word_of_the_command_line_is_on_a_page():
    for page in PAGES:
        assert not FLAG.search(" ".join((*page.heading, *page.hint)))
        extra = edit_fields() if page.edits else []
        for field in [*extra, *fields_of(page.schema, {}, page.fixed)]:
            shown = [field.label, field.info, *(field.called(each) for each in LANGUAGES)]
            if field.kind == "choice":
                shown += [text for each in LANGUAGES for text, _ in field.choices(each)]
            assert not FLAG.search(" ".join(shown)), field.name


def test_each_explained_setting_is_on_a_page():
    used = {field.key for field in edit_fields()}
    for page in PAGES:
        used |= {field.key for field in fields_of(page.schema, {}, page.fixed)}
    assert used - {None} == set(SETTING_WORDS)


def test_the_values_of_a_menu_are_those_of_its_setting_and_differ():
    options = {each.name: each for page in PAGES for each in options_of(page.schema)}
    for name, values in CHOICE_WORDS.items():
        assert set(values) <= {"", *options[name].offered}, name
    for field in fields_of(TXT2IMG.schema, {}):
        if field.kind == "choice":
            for language in LANGUAGES:
                shown = [text for text, _ in field.choices(language)]
                assert len(set(shown)) == len(shown), field.name


def test_the_pages_script_says_what_is_written_for_it_and_nothing_else():
    script = (WEB / "page.js").read_text(encoding="utf-8")
    assert set(re.findall(r'\bsaid\("(\w+)"', script)) == set(SCRIPT_TEXTS)


def test_what_the_pages_code_says_is_written():
    code = "".join(path.read_text(encoding="utf-8") for path in WEB.glob("*.py"))
    assert set(re.findall(r'\bTEXT\("(\w+)"\)', code)) <= {*TEXTS, "heading", "hint"}
    named = re.findall(r'"(\w+)"', code.replace((WEB / "words.py").read_text("utf-8"), ""))
    assert not set(TEXTS) - set(named) - {f"looks_{role}" for role in ("source", "edit")}


def test_gradio_is_given_every_text_in_every_locale():
    texts = translations({"hint": ("a", "b", "c")})
    assert len({frozenset(every) for every in texts.values()}) == 1
    assert texts["zh-TW"]["H.label"] == SETTING_WORDS["H"].label[2]
    assert (texts["en"]["hint"], texts["ja"]["hint"], texts["zh-TW"]["hint"]) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("ja", "ja"),
        ("zh-Hant-TW,en;q=0.9", "zh"),
        ("de-DE,de;q=0.9,ja;q=0.8,en;q=0.7", "ja"),
        ("en;q=0.5,ja;q=x", "en"),
        ("*", "en"),
        ("", "en"),
        (None, "en"),
        ("," * 10**6, "en"),
    ],
)
def test_a_browser_is_answered_in_the_language_that_it_prefers(header, language):
    assert language_of(header) == language


def test_a_text_is_filled_in():
    assert said("steps", "ja", done=3, total=20) == "20 ステップ中 3"
