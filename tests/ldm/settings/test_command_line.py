from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from ldm.errors import UserError
from ldm.evaluation.settings import EvaluationProgramSettings
from ldm.settings.command_line import build_parser, parse
from ldm.settings.generation import MAX_SEED, Img2ImgSettings, Txt2ImgSettings
from ldm.settings.latents import PrecomputeSettings
from ldm.settings.mistyped import ELSEWHERE
from ldm.settings.option import REQUIRED, Settings, option, options_of, overrides_option
from ldm.settings.samples import SampleProgramSettings
from ldm.settings.upscale import UpscaleProgramSettings

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
        (["--seed", "x"], f"--seed x was given; expected a whole number from 0 to {MAX_SEED}"),
        (["--seed", "9" * 400], f"expected a whole number from 0 to {MAX_SEED}"),
        (["--seed", "9" * 5000], f"expected a whole number from 0 to {MAX_SEED}"),
        (["--H", "3.5"], "--H 3.5 was given; expected a whole number from 1 to"),
        (["--scale", "1,5"], "--scale 1,5 was given; expected a number"),
        (["--sampler", "eular"], "--sampler eular was given; expected ddim, plms, dpm_solver, "),
        (["--format", "gif"], "--format gif was given; expected png or jpg"),
        (["--ckpt", ""], "--ckpt '' was given; expected the name of a file"),
        (["--outdir", ""], "--outdir '' was given; expected the name of a folder"),
        (["--device", ""], "--device '' was given; expected auto, cpu, cuda"),
        (["--prompt", "-rainy"], "written --prompt=-rainy"),
        (["--prompt", "--rainy"], "written --prompt=--rainy"),
        (["--plms", "-n", "3"], "did you mean --n_samples?"),
        (["--skip_grid", "-W", "3"], "did you mean --W?"),
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


@pytest.mark.parametrize(
    "flag", ["--negative_prompt", "--outdir", "--ckpt", "--config", "--from-file", "--device"]
)
@pytest.mark.parametrize("value", ["-dog", "-dog's", "--dog", "-W", "-0x"])
def test_a_value_with_a_dash_first_is_told_with_the_equals_sign_that_it_needs(flag, value):
    with pytest.raises(UserError) as caught:
        parse(Txt2ImgSettings, "", ["--plms", flag, value])
    advice = str(caught.value).partition("is written ")[2]
    (written,) = shlex.split(advice)
    assert written == f"{flag}={value}"
    if flag != "--device":
        assert parse(Txt2ImgSettings, "", [written]) != {}


@pytest.mark.parametrize("argv", [["--negative_prompt"], ["--negative_prompt", "--plms"]])
def test_a_flag_that_stands_where_a_value_is_missing_is_no_value(argv):
    with pytest.raises(UserError, match="expected one argument; see --help"):
        parse(Txt2ImgSettings, "", argv)


OTHER_PROGRAMS_NAMES = {
    "-n": "--n_samples",
    "--n": "--n_samples",
    "--num_images_per_prompt": "--n_samples",
    "--batch": "--n_samples",
    "--batch-size": "--n_samples",
    "--batch_count": "--n_iter",
    "--cfg": "--scale or --config",
    "--cfg_scale": "--scale",
    "--cfg-scale": "--scale",
    "--guidance_scale": "--scale",
    "--width": "--W",
    "--height": "--H",
    "--w": "--W",
    "--h": "--H",
    "-W": "--W",
    "-H": "--H",
    "--Width": "--W",
    "--steps": "--ddim_steps",
    "-s": "--ddim_steps",
    "--s": "--ddim_steps",
    "--num_inference_steps": "--ddim_steps",
    "--ddim-steps": "--ddim_steps",
    "--negative-prompt": "--negative_prompt",
    "--no-nsfw": "--safety_checker off",
    "--fp16": "--precision autocast",
    "--cpu": "--device cpu",
    "--model": "--ckpt",
    "-o": "--outdir",
    "--output_dir": "--outdir",
    "--scheduler": "--sampler",
    "--eta": "--ddim_eta",
    "--skip-grid": "--skip_grid",
}


@pytest.mark.parametrize("flag", OTHER_PROGRAMS_NAMES)
@pytest.mark.parametrize("joined", [False, True])
def test_other_programs_names_of_a_flag_are_told_by_ours(flag, joined):
    with pytest.raises(UserError) as caught:
        parse(Txt2ImgSettings, "", [f"{flag}=3"] if joined else [flag, "3"])
    assert str(caught.value).endswith(f"; did you mean {OTHER_PROGRAMS_NAMES[flag]}?")


@pytest.mark.parametrize(
    ("schema", "flag", "advice"),
    [
        (Img2ImgSettings, "--width", "; it is --W of scripts/txt2img.py"),
        (Img2ImgSettings, "--h", "; it is --H of scripts/txt2img.py"),
        (Img2ImgSettings, "--init_img", "; did you mean --init-img?"),
        (Img2ImgSettings, "--denoising-strength", "; did you mean --strength?"),
        (Txt2ImgSettings, "--init_img", "; it is --init-img of scripts/img2img.py"),
        (Txt2ImgSettings, "--denoise", "; it is --strength of scripts/img2img.py"),
        (SampleProgramSettings, "--steps", "; did you mean --custom_steps?"),
        (SampleProgramSettings, "--ddim_eta", "; did you mean --eta?"),
        (SampleProgramSettings, "--ckpt", "; did you mean --resume?"),
        (UpscaleProgramSettings, "--ddim_steps", "; did you mean --steps?"),
        (EvaluationProgramSettings, "--bs", "; did you mean --batch_size?"),
    ],
)
def test_each_program_is_asked_for_flags_of_its_own_or_of_its_relatives(schema, flag, advice):
    with pytest.raises(UserError) as caught:
        parse(schema, "", [flag, "3"])
    assert str(caught.value).endswith(advice)


def test_whatever_is_advised_is_a_flag_of_the_program_or_names_the_program_that_has_it():
    for schema in (Txt2ImgSettings, Img2ImgSettings, SampleProgramSettings, UpscaleProgramSettings):
        flags = build_parser(schema, "")._option_string_actions
        for name in ELSEWHERE:
            if f"--{name}" in flags or f"-{name}" in flags:
                continue
            advice = build_parser(schema, "").nearest(f"--{name}")
            if "scripts/" in advice or "see --help" in advice:
                continue
            assert set(re.findall(r"--[\w-]+", advice)) <= flags.keys(), advice


@pytest.mark.parametrize(
    ("argv", "given"),
    [
        (["--neg", "x"], {"negative_prompt": "x"}),
        (["--o", "x"], {"outdir": "x"}),
        (["--sampl", "ddim"], {"sampler": "ddim"}),
        (["--scale", "-1"], {"scale": -1.0}),
    ],
)
def test_abbreviations_that_mean_one_thing_are_taken(argv, given):
    assert parse(Txt2ImgSettings, "", argv) == given


@pytest.mark.parametrize(
    ("flag", "names"), [("--se", "--seed or --seed_mode"), ("--skip", "--skip_grid or --skip_save")]
)
def test_an_abbreviation_of_several_flags_names_them(flag, names):
    with pytest.raises(UserError, match=f"{flag} was given, which may be {names}; write one"):
        parse(Txt2ImgSettings, "", [flag, "3"])


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


@pytest.mark.parametrize(
    ("schema", "taken", "refused", "expected"),
    [
        (SampleProgramSettings, ["model.a=1"], "data.params.batch_size=3", "as model.b=c"),
        (SampleProgramSettings, [], "lightning.trainer.max_steps=3", "as model.b=c"),
        (PrecomputeSettings, ["data.a=1", "model.a=1"], "lightning.a=3", "model.b=c or data.b=c"),
    ],
)
def test_a_change_of_what_a_program_does_not_read_is_refused(schema, taken, refused, expected):
    needed = ["--base", "a.yaml", "--out", "x"] if schema is PrecomputeSettings else []
    assert set(taken) == set(parse(schema, "", [*needed, *taken]).get("overrides", ()))
    with pytest.raises(UserError) as caught:
        parse(schema, "", [*needed, *taken, refused])
    assert f"{refused} was given" in str(caught.value) or repr(refused) in str(caught.value)
    assert expected in str(caught.value)


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
