"""The training program's command line: flags, overrides, errors of one line."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest
from emoji_font import needs_font

import main
from ldm.errors import UserError
from ldm.training.arguments import parse

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "demo" / "autoencoder_kl_f4.yaml"


def error_of(capsys, *arguments: str) -> str:
    """Run main.py, which must refuse, and return its one line."""
    assert main.main(list(arguments)) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    return line


@pytest.mark.parametrize("name", ["DataModuleFromConfig", "ImageLogger", "SetupCallback"])
def test_names_that_configurations_use_are_found_in_main(name):
    assert getattr(main, name).__name__ == name
    assert name in main.__all__


def test_a_name_that_main_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match="TestTubeLogger"):
        _ = main.TestTubeLogger


def test_short_and_long_flags_of_the_reference_are_read():
    short = parse(
        [
            "-n",
            "a",
            "-b",
            "x.yaml",
            "y.yaml",
            "-t",
            "-s",
            "7",
            "-f",
            "_p",
            "-l",
            "out",
            "-d",
            "--no-test",
        ]
    )
    words = "--name a --base x.yaml y.yaml --train true --seed 7 --postfix _p --logdir out"
    assert short == parse(f"{words} --debug 1 --no-test yes".split())
    assert short.base == (Path("x.yaml"), Path("y.yaml"))
    assert (short.train, short.no_test, short.debug, short.seed) == (True, True, True, 7)


def test_the_seed_is_23_and_the_rate_is_scaled_unless_told():
    options = parse([])
    assert (options.seed, options.train, options.logdir) == (23, False, Path("logs"))
    assert options.scale_lr is None  # the run's own, and true where it says nothing
    assert parse(["--scale_lr", "false"]).scale_lr is False


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2), ("0.5", 0.5), ("1e-3", 1e-3), ("bf16-mixed", "bf16-mixed")]
)
def test_a_trainer_flag_is_read_as_number_or_word(text, value):
    assert parse(["--precision", text]).trainer == {"precision": value}


def test_overrides_are_found_wherever_they_stand():
    options = parse(
        [
            "-b",
            "x.yaml",
            "model.params.a=1",
            "-t",
            "data.params.b[0]=2",
            "--max_steps",
            "3",
            "c.d=e=f",
        ]
    )
    assert options.overrides == ("model.params.a=1", "data.params.b[0]=2", "c.d=e=f")
    assert options.base == (Path("x.yaml"),)
    assert options.train


@pytest.mark.parametrize(("text", "seconds"), [("00:00:01:30", 90), ("01:02:00:00", 93600)])
def test_the_time_limit_is_read_as_days_hours_minutes_seconds(text, seconds):
    assert parse(["--max_time", text]).max_time == seconds


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max_step", "3"], ["unknown argument '--max_step'", "--max_steps"]),
        (["--distributed_backend=ddp"], ["unknown argument", "it is now called --strategy"]),
        (["--qqqqqqqq"], ["unknown argument '--qqqqqqqq'", "--help"]),
        (["--max_time", "3h"], ["--max_time 3h was given", "DD:HH:MM:SS"]),
        (["--train", "maybe"], ["--train maybe was given", "true or false"]),
        (["-n", "a", "-r", "b"], ["--name and --resume", "drop one"]),
        (["stray"], ["'stray' was given", "a.b=c"]),
        ([], ["no configuration", "--base"]),
        (["-t", "-b", "nowhere.yaml"], ["nowhere.yaml", "does not exist"]),
        (["-t", "-r", "nowhere"], ["nowhere", "does not exist"]),
        (["-t", "-r", str(CONFIG)], ["not in a run's folder", "model.params.ckpt_path"]),
        (["-t", "-r", str(ROOT)], ["without checkpoints/last.ckpt"]),
        pytest.param(["-b", str(CONFIG)], ["neither --train nor a test set"], marks=needs_font),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_a_mistake_is_one_line_that_says_what_to_do(arguments, words, capsys):
    line = error_of(capsys, *arguments)
    assert line.startswith("main.py: error: ")
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("lightnin.trainer.max_steps=1", ["'lightnin'", "'lightning'"]),
        ("lightning.trainr.max_steps=1", ["'trainr'", "'trainer'"]),
        ("lightning.trainer.max_step=1", ["'max_step'", "'max_steps'"]),
        pytest.param(
            "lightning.trainer.precision=12", ["12", "lightning.trainer"], marks=needs_font
        ),
        ("model.params.embed_dims=4", ["'embed_dims'", "'embed_dim'", "AutoencoderKL"]),
        ("model.params.lossconfig.params.kind=l3", ["'l3'", "'l1+l2'"]),
        pytest.param("model.base_learning_rate=null", ["base_learning_rate"], marks=needs_font),
        ("data.params.batch_sizes=4", ["'batch_sizes'", "'batch_size'"]),
        ("data.params.train.target=no.such.Thing", ["no.such.Thing"]),
        ("model.params.monitor=${nothing.there}", ["nothing"]),
        pytest.param(
            "lightning.callbacks.last_checkpoint.params.every_n_train_steps=0",
            ["0 steps"],
            marks=needs_font,
        ),
    ],
)
def test_a_mistake_in_the_configuration_is_found_before_anything_is_written(
    override, words, tmp_path, capsys
):
    small = ["data.params.num_workers=0", "data.params.train.params.length=16"]
    line = error_of(capsys, "-t", "-b", str(CONFIG), "-l", str(tmp_path), *small, override)
    assert all(word in line for word in words), line
    assert not list(tmp_path.iterdir())


def test_a_user_error_of_the_program_is_what_the_library_raises():
    with pytest.raises(UserError, match="unknown argument"):
        parse(["--nonsense"])


def test_training_shows_its_own_warnings_and_its_exit_code_is_the_programs(monkeypatch, capsys):
    from ldm.training import program

    def run(options):
        warnings.warn("Lightning has advice", stacklevel=1)
        logging.getLogger("ldm.training").warning("shown by the log of the run")
        return 143

    monkeypatch.setattr(program, "run", run)
    with pytest.warns(UserWarning, match="advice"):
        assert main.main(["-b", "x.yaml"]) == 143
    assert "shown by" not in capsys.readouterr().err
