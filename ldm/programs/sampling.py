"""The course of sample_diffusion.py: what is asked -> model -> pictures as they come -> one array.

Everything that can be told without torch is told before torch is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldm.errors import UserError
from ldm.programs.console import Console, run_guarded
from ldm.settings.samples import SampleSettings, read_labels

if TYPE_CHECKING:  # these import NumPy, OmegaConf and torch, which --help can do without
    from omegaconf import DictConfig
    from torch import nn

    from ldm.checkpoint.folders import ModelFiles
    from ldm.models.diffusion.classifier import NoisyLatentImageClassifier
    from ldm.pipelines.samples import SampleRun
    from ldm.programs.sample_folder import SampleFolder

# What a continued run may have otherwise: pictures do not depend on it.
CHANGEABLE = ("continue", "n_samples", "batch_size", "device")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a command line asks for.

    Attributes:
        settings: How to draw, checked.
        resume: The model: a checkpoint or a folder.
        config: The model's YAML; None is the one that lies with it.
        logdir: Above the samples' folder; None is the model's own folder.
        overrides: ``a.b=c`` changes of its configuration.
        use_ema: Take the checkpoint's averaged weights.
        device: Where to draw.
        classifier: Folder or checkpoint of a classifier that guides.
        folder: An earlier run's, to be continued.
    """

    settings: SampleSettings
    resume: str
    config: str | None = None
    logdir: str | None = None
    overrides: tuple[str, ...] = ()
    use_ema: bool = False
    device: str = "auto"
    classifier: str | None = None
    folder: SampleFolder | None = None

    def record(self) -> dict[str, Any]:
        """Return what a run writes down, under the flags' names."""
        return {
            "resume": str(Path(self.resume).resolve()),
            "config": self.config and str(Path(self.config).resolve()),
            "logdir": self.logdir,
            "overrides": list(self.overrides),
            "use_ema": self.use_ema,
            "device": self.device,
            "classifier": self.classifier and str(Path(self.classifier).resolve()),
            **asdict(self.settings),
            "class_label": list(self.settings.class_label),
        }


def read_request(given: Mapping[str, Any], overrides: Sequence[str] = ()) -> Request:
    """Check what a command line gives, by flag name.

    Raises:
        UserError: A value is out of range, or a continued run is to be another one.
    """
    values, folder = dict(given), None
    if "class_label" in values:
        values["class_label"] = read_labels(values["class_label"])
    if "continue" in values:
        folder, values = _recorded(values, overrides)
        overrides = values.pop("overrides")
        values["class_label"] = tuple(values["class_label"])
    if values.get("resume") is None:
        raise UserError("no model was given; add --resume FOLDER or CHECKPOINT")
    if values.get("logdir") == "none":  # the reference's word
        values["logdir"] = None
    own = {each.name for each in fields(SampleSettings)}
    settings = SampleSettings(**{k: v for k, v in values.items() if k in own})
    settings.validate()
    rest = {k: v for k, v in values.items() if k not in own}
    request = Request(settings=settings, overrides=tuple(overrides), folder=folder, **rest)
    if request.classifier is not None and not settings.class_label:
        raise UserError("--classifier was given; expected classes with it; add --class_label")
    return request


def _recorded(
    values: dict[str, Any], overrides: Sequence[str]
) -> tuple[SampleFolder, dict[str, Any]]:
    """Return the folder to go on with, and what its run was asked for, changed as it may be."""
    from ldm.programs.sample_folder import SampleFolder

    others = [f"--{name}" for name in values if name not in CHANGEABLE] + list(overrides)
    if others:
        raise UserError(
            f"{others[0]} was given with --continue, which goes on as the run began; expected "
            "only --n_samples, --batch_size or --device beside it; leave the rest out"
        )
    folder = SampleFolder(values.pop("continue"))
    recorded = folder.read_config()
    if recorded.keys() != Request(settings=SampleSettings(), resume="").record().keys():
        raise UserError(
            f"--continue {folder.folder}: its settings were not written by this version; "
            "expected that of its own runs; begin a new one with --resume"
        )
    return folder, {**recorded, **values}


def run_sampling(given: Mapping[str, Any], overrides: Sequence[str], program: str) -> int:
    """Draw samples; return the exit code: 0, 2 for a user's error, 130 for Ctrl-C.

    Args:
        given: What the command line gives, by flag name.
        overrides: ``a.b=c`` changes of the model's configuration.
        program: The name before errors.
    """
    console = Console(program, sys.stdout, sys.stderr)
    return run_guarded(
        console,
        lambda: _Program(console, read_request(given, overrides)).run(),
        lambda: "what is finished is kept",
    )


class _Program:
    def __init__(self, console: Console, request: Request) -> None:
        self.console, self.request = console, request
        self.settings = request.settings

    def run(self) -> None:
        """Load, draw, and write the array, also of what an interrupted run has finished."""
        from ldm.checkpoint.folders import find_model_files

        for notice in self.settings.notices():
            self.console.warn(notice)
        files = find_model_files(self.request.resume, config=self.request.config)
        config = files.load_config(self.request.overrides)
        run = self._load(files, config)
        folder = self._open(files)
        first = folder.next_number()
        if first >= self.settings.n_samples:
            self.console.say(f"{first} samples are there; {self.settings.n_samples} were asked.")
        else:
            self._say_what(run, files)
        labelled = bool(self.settings.class_label)
        try:
            for number, picture in run.pictures(first):
                folder.save(picture, number)
        finally:
            self.console.close()
            array = folder.write_array(self.settings.label if labelled else None)
            if array is not None:
                self.console.say(f"Written: {folder.img}, {array}")

    def _say_what(self, run: SampleRun, files: ModelFiles) -> None:
        settings = self.settings
        name = "ancestral sampling" if settings.vanilla_sample else settings.sampler
        self.console.say(
            f"Seeds from {settings.seed} on, {name} in {run.sampler.steps} steps, "
            f"{files.ckpt} on {run.model.device}."
        )

    def _load(self, files: ModelFiles, config: DictConfig) -> SampleRun:
        from ldm.pipelines.pipeline import resolve_device  # imports torch: a second
        from ldm.pipelines.samples import SampleRun

        device = str(resolve_device(self.request.device))
        model = self._load_one(config, files, device, use_ema=self.request.use_ema)
        classifier = self._load_classifier(model, device)
        return SampleRun(model, self.settings, self.console.observe, classifier)

    def _load_classifier(self, model: nn.Module, device: str) -> NoisyLatentImageClassifier | None:
        from ldm.checkpoint.folders import find_model_files

        if self.request.classifier is None:
            return None
        files = find_model_files(self.request.classifier, "--classifier")
        classifier = self._load_one(files.load_config(), files, device)
        _check_classifier(classifier, model, self.request)
        return classifier

    def _load_one(
        self, config: DictConfig, files: ModelFiles, device: str, *, use_ema: bool = False
    ) -> Any:
        import torch

        from ldm.checkpoint.load import load_model
        from ldm.pipelines.execution import memory_for

        with memory_for(f"the weights of {files.ckpt}", torch.device(device), "take --device cpu"):
            model, report = load_model(config, files.ckpt, use_ema=use_ema, device=device)
        for text in report.warnings():
            self.console.warn(text)
        return model

    def _open(self, files: ModelFiles) -> SampleFolder:
        """Return the folder to write into, with the run's settings in it."""
        from ldm.checkpoint.io import read_checkpoint
        from ldm.programs.sample_folder import SampleFolder

        request = self.request
        folder = request.folder
        if folder is None:
            own = files.folder
            logdir = own if request.logdir is None else Path(request.logdir) / own.resolve().name
            step = read_checkpoint(files.ckpt).global_step or 0
            folder = SampleFolder.new(logdir, step)
        folder.write_config(request.record())
        return folder


def _check_classifier(classifier: Any, model: nn.Module, request: Request) -> None:
    """Hold that a classifier judges what the model diffuses.

    Raises:
        UserError: It does not.
    """
    from ldm.models.diffusion.classifier import NoisyLatentImageClassifier

    where = f"--classifier {request.classifier}"
    if not isinstance(classifier, NoisyLatentImageClassifier):
        raise UserError(
            f"{where}: a {type(classifier).__name__} is there; expected a "
            "NoisyLatentImageClassifier; check the path"
        )
    worst = max(request.settings.class_label)
    if classifier.label_key != "class_label" or worst >= classifier.num_classes:
        raise UserError(
            f"{where} and --class_label {worst} were given; the classifier knows classes 0 to "
            f"{classifier.num_classes - 1} of {classifier.label_key}; give one of them"
        )
    theirs = classifier.diffusion_model
    same = theirs.channels == model.channels and theirs.num_timesteps == model.num_timesteps
    if not same or not theirs.alphas_cumprod.allclose(model.alphas_cumprod, rtol=1e-3):
        raise UserError(
            f"{where}: it was trained on another model's latents or noise; expected one trained "
            "on this model; train it with this model's folder as diffusion_path"
        )
