"""The command line of ``main.py``: the reference's flags, the Trainer's, and dotlist overrides.

Nothing here imports torch, so that ``--help`` and a mistyped flag answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ldm.errors import UserError
from ldm.settings.command_line import OptionParser
from ldm.settings.mistyped import bare
from ldm.settings.option import Option, Settings, max_pixels_option, option, overrides_option

COMPRESSIONS = ("none", "fp16", "bf16", "powersgd")
"""How gradients may be sent between processes; ``ldm.training.compression`` does it."""
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

# What other trainers' programs have a flag for -> where the setting is here.
ELSEWHERE = {
    **dict.fromkeys(("lr", "learning_rate", "base_lr"), "model.base_learning_rate=VALUE"),
    **dict.fromkeys(("bs", "b", "batch_size", "train_batch_size"), "data.params.batch_size=N"),
    **dict.fromkeys(("num_workers", "workers"), "data.params.num_workers=N"),
    **dict.fromkeys(
        ("ckpt", "ckpt_path", "actual_resume", "finetune_from", "weights"),
        "model.params.ckpt_path=FILE (--resume goes on with a run)",
    ),
    **dict.fromkeys(("epochs", "num_epochs", "num_train_epochs"), "--max_epochs"),
    **dict.fromkeys(("steps", "max_train_steps", "num_steps", "iterations"), "--max_steps"),
    **dict.fromkeys(("config", "cfg", "yaml"), "--base"),
    **dict.fromkeys(("outdir", "output_dir", "output", "log_dir"), "--logdir"),
    **dict.fromkeys(("fp16", "mixed_precision", "half"), "--precision 16-mixed"),
    "bf16": "--precision bf16-mixed",
    "gpu": "--gpus",
    "device": "--accelerator",
    "gradient_accumulation_steps": "--accumulate_grad_batches",
    "max_grad_norm": "--gradient_clip_val",
    "checkpointing_steps": "--checkpoint_every",
}


def read_value(text: str) -> Any:
    """Read a number, a truth value or none; anything else stays text.

    Example:
        >>> [read_value(text) for text in ("2", "0.5", "true", "none", "bf16-mixed")]
        [2, 0.5, True, None, 'bf16-mixed']
    """
    plain = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in plain:
        return plain[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def read_duration(text: str) -> float:
    """Read DD:HH:MM:SS as seconds.

    Raises:
        UserError: Something else is there.

    Example:
        >>> read_duration("00:01:00:30")
        3630.0
    """
    fields = text.split(":")
    if len(fields) != 4 or not all(part.isdigit() for part in fields):
        raise UserError(
            f"--max_time {text} was given; expected DD:HH:MM:SS, as 00:03:30:00; change it"
        )
    days, hours, minutes, seconds = map(int, fields)
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Settings):
    """What the command line asked for.

    Attributes:
        max_time: The wall-clock limit of this process, in seconds.
        scale_lr: None leaves it to the configuration, true where that says nothing.
        channels_last: None leaves it to the configuration, as of the two below it.
        overrides: ``a.b=c`` items.
        trainer: The Trainer's settings that were given as flags.
    """

    program: ClassVar[str] = "main.py"

    name: str = option(
        "", "name of the run's folder", synonyms=("-n",), shown="that of the first configuration"
    )
    resume: Path | None = option(
        None,
        "the run's folder or checkpoint to continue",
        Path,
        synonyms=("-r",),
        metavar="PATH",
        words="a run's folder or a checkpoint in it",
    )
    base: tuple[Path, ...] = option(
        (),
        "configurations, merged in order",
        Path,
        synonyms=("-b",),
        several="*",
        metavar="YAML",
        words="the name of a YAML file",
    )
    train: bool = option(False, "train", synonyms=("-t",), worded=True)
    no_test: bool = option(False, "skip the test", flag="--no-test", worded=True)
    project: str = option("", "kept for old command lines; unused", synonyms=("-p",))
    debug: bool = option(
        False, "open the debugger where an error ends the run", synonyms=("-d",), worded=True
    )
    seed: int = option(23, "seed of data order and noise", synonyms=("-s",))
    max_pixels: int = max_pixels_option()
    postfix: str = option("", "appended to the name of the run's folder", synonyms=("-f",))
    logdir: Path = option(
        Path("logs"), "where run folders go", Path, synonyms=("-l",), metavar="FOLDER"
    )
    scale_lr: bool | None = option(
        None,
        "learning rate = accumulation x devices x batch size x base_learning_rate",
        bool,
        worded=True,
        shown="true, or as the resumed run has it",
    )
    channels_last: bool | None = option(
        None,
        "lay pictures out by pixel, not by channel: faster convolutions on most GPUs and CPUs",
        bool,
        worded=True,
    )
    gradient_compression: str | None = option(
        None,
        "send smaller gradients between processes with ddp; numbers change",
        str,
        choices=COMPRESSIONS,
        shown="none, or as the configuration has it",
    )
    async_checkpoints: bool | None = option(
        None,
        "write checkpoints in the background, from a copy in the host's memory",
        bool,
        worded=True,
    )
    latents: Path | None = option(
        None,
        "train on what scripts/precompute_latents.py wrote, in place of the training set",
        Path,
        metavar="FOLDER",
    )
    max_time: float | None = option(
        None,
        "save and stop after this time; counted from this start, also when resuming",
        float,
        metavar="DD:HH:MM:SS",
        reader=read_duration,
    )
    checkpoint_every: int | None = option(
        None, "steps between two savings of last.ckpt", int, metavar="STEPS", shown="1000"
    )
    progress_every: int | None = option(
        None, "steps between two lines of progress", int, metavar="STEPS", shown="50"
    )
    overrides: tuple[str, ...] = overrides_option()
    trainer: dict[str, Any] = field(default_factory=dict)

    def validate(self) -> None:
        """Check each value, and that a resumed run is not given a name."""
        super().validate()
        if self.name and self.resume:
            raise UserError(
                "--name and --resume given; a resumed run keeps its folder and name: drop one of "
                "them"
            )


class TrainingParser(OptionParser):
    """The flags of ``main.py``: its own, then the Trainer's."""

    def __init__(self) -> None:
        super().__init__(
            TrainingOptions,
            "Train a model from YAML configurations.",
            epilog="Any setting of the configuration can be given as a.b=c, "
            "for instance model.params.embed_dim=8 or lightning.trainer.max_steps=1000.",
            allow_abbrev=False,
        )
        title = "Trainer settings (the same as lightning.trainer.NAME=...)"
        group = self.add_argument_group(title)
        for name, text in TRAINER_FLAGS.items():
            made = Option(text, str, name, f"--{name}", metavar="VALUE", reader=read_value)
            self.add_option(group, made)
        self.add_option(group, Option("as --devices, on GPUs", str, "gpus", "--gpus"))

    def nearest(self, unknown: str) -> str:
        """Return the end of a sentence that says what ``unknown`` is called now, or may be."""
        if now := RENAMED.get(unknown.split("=")[0]):
            return f"; it is now called {now}"
        here = ELSEWHERE.get(bare(unknown)) if unknown.startswith("-") else None
        return f"; did you mean {here}?" if here else super().nearest(unknown)


def build_parser() -> TrainingParser:
    """Describe the flags."""
    return TrainingParser()


def parse(argv: list[str] | None = None) -> TrainingOptions:
    """Read the command line.

    Raises:
        UserError: An unknown flag (the nearest one is named), a value that does not fit, or
            ``--name`` together with ``--resume``.
    """
    given = build_parser().read(argv)
    trainer = {name: given.pop(name) for name in (*TRAINER_FLAGS, "gpus") if name in given}
    options = TrainingOptions(**given, trainer=trainer)
    options.validate()
    return options
