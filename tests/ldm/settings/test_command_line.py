from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.settings.command_line import build_parser, parse
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.settings.option import options_of

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
    for option in options_of(schema):
        assert option.flag in text
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
        (["--device", ""], "--device '' was given; expected the name of a device"),
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
