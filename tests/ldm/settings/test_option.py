"""How one setting is read and checked, whatever program it belongs to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ldm.errors import UserError
from ldm.settings.option import (
    REQUIRED,
    Settings,
    changed,
    device_option,
    option,
    options_of,
    overrides_option,
)


@dataclass(frozen=True, kw_only=True)
class Cookbook(Settings):
    title: str = option(REQUIRED, "its name", str, metavar="FILE")
    pages: tuple[int, ...] = option((1, 2), "which pages", int, several="+", minimum=1)
    kinds: tuple[str, ...] = option(("soup",), "what", str, several="+", choices=("soup", "cake"))
    folder: Path = option(Path("here"), "where it lies", Path, metavar="FOLDER")
    spicy: bool = option(True, "with pepper", worded=True)
    device: str = device_option()
    overrides: tuple[str, ...] = overrides_option()
    notes: str | None = None  # no option: not the user's


OPTIONS = {each.name: each for each in options_of(Cookbook)}


def told(act, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        act(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_only_fields_with_an_option_are_the_users():
    assert "notes" not in OPTIONS and OPTIONS["pages"].flag == "--pages"
    assert OPTIONS["overrides"].flag == ""  # it has a place, not a flag


def test_what_has_no_default_is_required_and_says_what_to_add():
    required = {name for name, each in OPTIONS.items() if each.required}
    assert required == {"title"}
    text = OPTIONS["title"].missing
    assert text == "--title was not given; expected the name of a file; add --title FILE"
    with pytest.raises(TypeError, match="title"):
        Cookbook()
    chosen = replace(OPTIONS["title"], choices=("a", "b"), metavar="")
    assert chosen.missing == "--title was not given; expected a or b; add --title NAME"


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("pages", ["3", "4"], (3, 4)),
        ("kinds", ["cake"], ("cake",)),
        ("folder", "a/b", Path("a/b")),
        ("spicy", "False", False),
        ("spicy", "yes", True),
        ("device", "cuda:1", "cuda:1"),
        ("overrides", ["model.params.x[0]=a=b"], ("model.params.x[0]=a=b",)),
    ],
)
def test_what_is_typed_becomes_a_value_of_its_kind(name, typed, value):
    read = OPTIONS[name].read(typed)
    assert read == value and type(read) is type(value)
    OPTIONS[name].check(read)


@pytest.mark.parametrize(
    ("name", "typed", "words"),
    [
        ("pages", ["3", "0"], "--pages 0 was given; expected a whole number, 1 or more"),
        ("pages", ["x"], "--pages x was given; expected a whole number"),
        ("kinds", ["soup", "tea"], "--kinds tea was given; expected soup or cake"),
        ("folder", "", "--folder '' was given; expected the name of a folder"),
        ("spicy", "maybe", "--spicy maybe was given; expected true or false"),
        ("device", "abacus", "--device abacus was given; expected auto, cpu, cuda, cuda:N or mps"),
        ("device", "cuda:x", "--device cuda:x was given"),
        ("overrides", ["stray"], "'stray' was given; expected a flag, or a change of the config"),
        ("overrides", ["a=1"], "'a=1' was given"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(name, typed, words):
    assert told(OPTIONS[name].read, typed).startswith(words)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"pages": (1, -1)}, "--pages -1 was given"),
        ({"kinds": ("tea",)}, "--kinds tea was given"),
        ({"folder": "text"}, "--folder text was given"),
        ({"spicy": 1}, "--spicy 1 was given"),
        ({"device": "meta"}, "--device meta was given"),
        ({"title": ""}, "--title '' was given"),
    ],
)
def test_settings_made_in_python_are_checked_as_those_of_a_command_line(values, words):
    good = {"title": "soups"}
    Cookbook(**good).validate()
    assert told(Cookbook(**{**good, **values}).validate).startswith(words)


def test_several_values_that_have_to_be_given_are_not_none_at_all():
    @dataclass(frozen=True, kw_only=True)
    class Basket(Settings):
        fruits: tuple[str, ...] = option(REQUIRED, "what", str, several="+")

    assert told(Basket(fruits=()).validate).startswith("--fruits was not given")


def test_a_changed_option_is_required_only_while_it_has_no_default():
    @dataclass(frozen=True, kw_only=True)
    class Leaflet(Settings):
        title: str = changed(Cookbook, "title", default="untitled")
        name: str = changed(Cookbook, "title")

    title, name = options_of(Leaflet)
    assert (title.required, name.required) == (False, True)
