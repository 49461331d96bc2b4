from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from ldm.errors import UserError
from ldm.settings.command_line import build_parser, parse
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.settings.option import REQUIRED, Settings, option, options_of, overrides_option

REFERENCE_FLAGS = {
    *("--prompt", "--outdir", "--skip_grid", "--skip_save", "--ddim_steps", "--plms"),
    *("--dpm_solver", "--laion400m", "--fixed_code", "--ddim_eta", "--n_iter", "--H", "--W"),
    *("--C", "--f", "--n_samples", "--n_rows", "--scale", "--from-file", "--config", "--ckpt"),
    *("--seed", "--precision"),
}
OWN_FLAGS = {
    *("--negative_prompt", "--device", "--seed_mode", "--spacing", "--sampler"),
    *("--safety_checker", "--format", "--from-image", "--use_ema"),
}
SIZE_FLAGS = {"--H", "--W", "--laion400m"}


def test_txt2img_has_the_references_flags_and_ours():
    flags = build_parser(Txt2ImgSettings, "")._option_string_actions
    assert not (REFERENCE_FLAGS | OWN_FLAGS) - flags.keys()


def test_img2img_has_every_flag_but_those_of_size_and_adds_its_own():
    flags = build_parser(Img2ImgSettings, "")._option_string_actions
    expected = REFERENCE_FLAGS | OWN_FLAGS | {"--init-img", "--strength"}
    assert not expected - SIZE_FLAGS - flags.keys()
    assert not SIZE_FLAGS & flags.keys()


@pytest.mark.parametrize("schema", [Txt2ImgSettings, Img2ImgSettings])
def test_help_names_every_flag_and_the_defaults(schema):
    text = " ".join(build_parser(schema, "What it does.").format_help().split())
    assert "What it does." in text
    for each in options_of(schema):
        assert each.flag in text
    assert f"(default: {schema().scale})" in text
    assert "(default: 42)" in text


def test_only_what_was_given_comes_back():
    assert parse(Txt2ImgSettings, "", []) == {}
    given = parse(Txt2ImgSettings, "", ["--seed", "42", "--skip_grid", "--from-file", "p.txt"])
    assert given == {"seed": 42, "skip_grid": True, "from_file": "p.txt"}


@pytest.mark.parametrize(
    ("flags", "sampler"),
    [
        (["--plms"], "plms"),
        (["--dpm_solver"], "dpm_solver"),
        (["--sampler", "ddim"], "ddim"),
        (["--plms", "--sampler", "plms"], "plms"),
    ],
)
def test_old_and_new_spellings_of_the_sampler_agree(flags, sampler):
    assert parse(Txt2ImgSettings, "", flags) == {"sampler": sampler}


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--plms", "--dpm_solver"], "--plms and --dpm_solver"),
        (["--plms", "--sampler", "ddim"], "--plms and --sampler ddim"),
    ],
)
def test_two_samplers_contradict_each_other(flags, named):
    with pytest.raises(UserError, match=named):
        parse(Txt2ImgSettings, "", flags)


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["--promt", "x"], "did you mean --prompt"),
        (["--prompt", "a", "cat"], "quotes"),
        (["--prompt"], "without text"),
        (["--seed", "x"], "--seed x was given; expected a whole number from 0 to 4294967295"),
        (["--seed", "9" * 400], "expected a whole number from 0 to 4294967295"),
        (["--seed", "9" * 5000], "expected a whole number from 0 to 4294967295"),
        (["--H", "3.5"], "--H 3.5 was given; expected a whole number from 1 to"),
        (["--scale", "1,5"], "--scale 1,5 was given; expected a number"),
        (["--sampler", "eular"], "--sampler eular was given; expected ddim, plms, dpm_solver, "),
        (["--format", "gif"], "--format gif was given; expected png or jpg"),
        (["--ckpt", ""], "--ckpt '' was given; expected the name of a file"),
        (["--outdir", ""], "--outdir '' was given; expected the name of a folder"),
        (["--device", ""], "--device '' was given; expected auto, cpu, cuda"),
        (["--prompt", "-rainy"], '--prompt="-text"'),
        (["--outdir"], "--outdir: expected one argument"),
        (["--init-img", "a.png"], "it is a flag of scripts/img2img.py"),
        (["--K", "3"], "unknown argument '--K'; see --help"),
        (["-seed", "3"], "did you mean --seed?"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_a_hint(argv, hint):
    with pytest.raises(UserError) as caught:
        parse(Txt2ImgSettings, "", argv)
    assert hint in str(caught.value) and "\n" not in str(caught.value)


def test_an_empty_prompt_is_a_prompt():
    assert parse(Txt2ImgSettings, "", ["--prompt", ""]) == {"prompt": ""}


@dataclass(frozen=True, kw_only=True)
class Cooking(Settings):
    """A program with every kind of flag."""

    program: ClassVar[str] = "cook"

    dish: str = option(REQUIRED, "what to cook", str, positional=True, metavar="DISH")
    pots: tuple[Path, ...] = option((), "in what", Path, synonyms=("-p",), several="*")
    spices: tuple[str, ...] = option((), "with what", str, several="again", metavar="SPICE")
    cook: str = option(REQUIRED, "who", str, metavar="NAME")
    slowly: bool = option(False, "take your time", synonyms=("-s",), worded=True)
    note: str = option("", "a remark")
    pace: str | None = option(
        None, "how", str, choices=("low", "high"), aliases=(("--low", "low"),)
    )
    overrides: tuple[str, ...] = overrides_option()


@dataclass(frozen=True, kw_only=True)
class Shopping(Settings):
    names: tuple[str, ...] = option((), "what", str, positional=True, several="*")
    n: int = option(1, "how many")


def cook(line):
    return parse(Cooking, "Cook.", ["--cook", "me", *line.split()])


@pytest.mark.parametrize(
    "line",
    ["soup -p a b", "-p a b -s no soup", "-s no soup -p a b"],
)
def test_what_has_no_flag_stands_anywhere_between_flags_that_have_their_values(line):
    given = cook(line)
    assert given["dish"] == "soup" and given["pots"] == (Path("a"), Path("b"))


def test_a_flag_of_several_values_may_also_be_given_again_and_again():
    assert cook("soup --spices salt --spices dill")["spices"] == ("salt", "dill")


@pytest.mark.parametrize(("word", "value"), [("", True), ("true", True), ("0", False)])
def test_a_worded_flag_needs_no_word(word, value):
    assert cook(f"soup --slowly {word}")["slowly"] is value


def test_changes_of_a_configuration_are_no_flags_values_wherever_they_stand():
    given = cook("soup -p a x.y=1 -s x.z=2 --pace low c.d=e=f")
    assert given["overrides"] == ("x.y=1", "x.z=2", "c.d=e=f")
    assert (given["pots"], given["slowly"], given["dish"]) == ((Path("a"),), True, "soup")


def test_the_value_of_a_flag_is_no_change_of_a_configuration():
    given = cook("soup --note x.y=1")
    assert given["note"] == "x.y=1" and "overrides" not in given


def test_a_file_is_no_change_of_a_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.b=c").touch()
    assert cook("soup -p a.b=c")["pots"] == (Path("a.b=c"),)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("", "DISH was not given; expected the name of a dish; add DISH"),
        ("--spicez salt", "unknown argument '--spicez'; did you mean --spices?"),
        ("soup stray", "'stray' was given; expected a flag, or a change"),
        ("soup --low --pace high", "--low and --pace high were given together"),
        ("soup --pace", "--pace: expected one argument"),
    ],
)
def test_what_is_mistyped_is_told_before_what_is_missing(line, hint):
    with pytest.raises(UserError) as caught:
        cook(line)
    assert hint in str(caught.value)


def test_things_without_flags_go_on_behind_a_flag():
    assert parse(Shopping, "", ["a", "--n", "2", "b"]) == {"names": ("a", "b"), "n": 2}
    assert parse(Shopping, "", ["--n", "2"]) == {"n": 2}


def test_a_name_that_begins_with_a_dash_stands_behind_two_dashes():
    assert parse(Shopping, "", ["--n", "2", "--", "-a", "b"]) == {"names": ("-a", "b"), "n": 2}


def test_help_shows_what_is_needed_without_brackets_and_short_flags_first(capsys):
    with pytest.raises(SystemExit) as caught:
        cook("--help")
    text = capsys.readouterr().out
    assert caught.value.code == 0
    usage = " ".join(text.split("\n\n")[0].split())
    assert usage.endswith(" DISH [a.b=c ...]") and "[-p [TEXT ...]]" in usage
    assert "] --cook NAME [" in usage
    assert "-p [TEXT ...], --pots [TEXT ...]" in text
    assert "--low" in text and "the same as --pace low" in text


def test_a_description_of_several_lines_is_shown_as_it_is():
    lines = "Cook.\n\nExample:\n    cook soup"
    assert lines in build_parser(Cooking, lines).format_help()
