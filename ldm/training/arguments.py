"""The command line of ``main.py``: the reference's flags, the Trainer's, and dotlist overrides.

Nothing here imports torch, so that ``--help`` and a mistyped flag answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ldm.arguments import ArgumentParser
from ldm.errors import UserError

OVERRIDE = re.compile(r"[A-Za-z_][\w\[\]-]*(\.[\w\[\]-]+)+=")

# Flag -> what it does; each sets `lightning.trainer.<flag>`.
TRAINER_FLAGS = {
    "accelerator": "cpu, gpu, mps, auto",
    "devices": "number of devices (2), or which ones: 0, with a comma, 0,1 or [0,1]",
    "num_nodes": "number of machines",
    "strategy": "auto (ddp where there are several devices), ddp, fsdp, ...",
    "precision": "32 (default), bf16-mixed, 16-mixed, ...",
    "max_steps": "stop after so many optimizer steps",
    "max_epochs": "stop after so many passes over the data",
    "min_steps": "train at least so many steps",
    "min_epochs": "train at least so many epochs",
    "accumulate_grad_batches": "batches per optimizer step",
    "gradient_clip_val": "largest gradient norm",
    "gradient_clip_algorithm": "norm or value",
    "val_check_interval": "validate every so many batches (integer) or part of an epoch",
    "check_val_every_n_epoch": "validate every so many epochs",
    "limit_train_batches": "batches per epoch (integer) or part of the data",
    "limit_val_batches": "batches per validation (integer) or part of the data; 0 turns it off",
    "limit_test_batches": "as above, for the test",
    "num_sanity_val_steps": "validation batches tried before training (2)",
    "overfit_batches": "train and validate on so many batches only",
    "log_every_n_steps": "write metrics every so many steps (50)",
    "fast_dev_run": "run so many batches of everything and save nothing",
    "deterministic": "true: deterministic algorithms only",
    "benchmark": "true: let cuDNN try its algorithms",
    "detect_anomaly": "true: look for NaN in the backward pass",
    "profiler": "simple, advanced, pytorch",
    "sync_batchnorm": "true: batch statistics over all devices",
    "reload_dataloaders_every_n_epochs": "build the loaders anew every so many epochs",
    "enable_model_summary": "true: print the modules",
    "enable_progress_bar": "true: a bar as well as a line every so many steps",
}

# Flags of the Lightning that the reference ran on -> what does the same now.
RENAMED = {
    "--resume_from_checkpoint": "--resume",
    "--distributed_backend": "--strategy",
    "--num_processes": "--devices",
    "--progress_bar_refresh_rate": "--progress_every",
    "--weights_summary": "--enable_model_summary",
    "--amp_level": "--precision",
}


@dataclass(frozen=True)
class TrainingOptions:
    """What the command line asked for.

    ``trainer`` holds the Trainer settings that were given as flags; ``overrides`` the ``a.b=c``
    items; ``max_time`` is the wall-clock limit of this process in seconds, or None; a
    ``channels_last`` of None leaves it to the configuration.
    """

    name: str = ""
    resume: Path | None = None
    base: tuple[Path, ...] = ()
    train: bool = False
    no_test: bool = False
    project: str = ""
    debug: bool = False
    seed: int = 23
    postfix: str = ""
    logdir: Path = Path("logs")
    scale_lr: bool = True
    channels_last: bool | None = None
    latents: Path | None = None
    max_time: float | None = None
    checkpoint_every: int | None = None
    progress_every: int | None = None
    trainer: dict[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()


def parse(argv: list[str] | None = None) -> TrainingOptions:
    """Read the command line.

    Raises:
        UserError: An unknown flag (the nearest one is named), a value that does not fit, or
            ``--name`` together with ``--resume``.
    """
    given = sys.argv[1:] if argv is None else argv
    # Taken out first: `-b a.yaml x.y=1` and `-t x.y=1` would swallow an override as their value.
    overrides = tuple(item for item in given if OVERRIDE.match(item) and not Path(item).exists())
    parser = build_parser()
    known, unknown = parser.parse_known_args([item for item in given if item not in overrides])
    if unknown:
        _refuse(unknown[0], [flag for action in parser._actions for flag in action.option_strings])
    if known.name and known.resume:
        raise UserError(
            "--name and --resume given; a resumed run keeps its folder and name: drop one of them"
        )
    values = vars(known)
    trainer = {key: values.pop(key) for key in (*TRAINER_FLAGS, "gpus") if key in values}
    base = tuple(map(Path, values.pop("base")))
    return TrainingOptions(**values, base=base, trainer=trainer, overrides=overrides)


def build_parser() -> argparse.ArgumentParser:
    """Describe the flags."""
    parser = ArgumentParser(
        prog="main.py",
        description="Train a model from YAML configurations.",
        epilog="Any setting of the configuration can be given as a.b=c, "
        "for instance model.params.embed_dim=8 or lightning.trainer.max_steps=1000.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-n", "--name", default="", help="name of the run's folder (default: the first config's)")
    add("-r", "--resume", type=Path, metavar="PATH", help="run folder or checkpoint to continue")
    add("-b", "--base", nargs="*", default=[], metavar="YAML", help="configs, merged in order")
    add("-t", "--train", type=_boolean, nargs="?", const=True, default=False, help="train")
    add("--no-test", type=_boolean, nargs="?", const=True, default=False, help="skip the test")
    add("-p", "--project", default="", help="kept for old command lines; unused")
    add("-d", "--debug", type=_boolean, nargs="?", const=True, default=False, help="debug errors")
    add("-s", "--seed", type=int, default=23, help="seed of data order and noise (23)")
    add("-f", "--postfix", default="", help="appended to the name of the run's folder")
    add("-l", "--logdir", type=Path, default=Path("logs"), help="where run folders go (logs)")
    add(
        "--scale_lr",
        type=_boolean,
        nargs="?",
        const=True,
        default=True,
        help="learning rate = accumulation x devices x batch size x base_learning_rate (true)",
    )
    add(
        "--channels_last",
        type=_boolean,
        nargs="?",
        const=True,
        default=None,
        help="lay pictures out by pixel, not by channel: faster convolutions on most GPUs and CPUs",
    )
    add(
        "--latents",
        type=Path,
        metavar="FOLDER",
        help="train on what scripts/precompute_latents.py wrote, in place of the training set",
    )
    add(
        "--max_time",
        type=_duration,
        metavar="DD:HH:MM:SS",
        help="save and stop after this time; counted from this start, also when resuming",
    )
    add("--checkpoint_every", type=int, metavar="STEPS", help="save last.ckpt so often (1000)")
    add("--progress_every", type=int, metavar="STEPS", help="print a line so often (50)")
    group = parser.add_argument_group("Trainer settings (the same as lightning.trainer.NAME=...)")
    for flag, text in TRAINER_FLAGS.items():
        group.add_argument(
            f"--{flag}", type=_value, default=argparse.SUPPRESS, metavar="VALUE", help=text
        )
    group.add_argument(
        "--gpus", type=str, default=argparse.SUPPRESS, dest="gpus", help="as --devices, on GPUs"
    )
    return parser


def _refuse(item: str, flags: list[str]) -> None:
    """Raise the error for something that is neither a flag nor an override."""
    if not item.startswith("-"):
        raise UserError(f"{item!r} given; expected a flag, or an override such as a.b=c")
    name = item.split("=")[0]
    if name in RENAMED:
        raise UserError(f"unknown flag {name}; it is now called {RENAMED[name]}")
    near = difflib.get_close_matches(name, flags, n=1)
    hint = f"did you mean {near[0]}?" if near else "see --help for the flags"
    raise UserError(f"unknown flag {name}; {hint}")


def _boolean(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"{text!r} given, expected true or false")
    return words[text.lower()]


def _value(text: str) -> Any:
    """Read a number, truth value or none; anything else stays text."""
    plain = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in plain:
        return plain[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _duration(text: str) -> float:
    """Read DD:HH:MM:SS as seconds."""
    fields = text.split(":")
    if len(fields) != 4 or not all(part.isdigit() for part in fields):
        raise argparse.ArgumentTypeError(f"{text!r} given, expected DD:HH:MM:SS as 00:03:30:00")
    days, hours, minutes, seconds = map(int, fields)
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
