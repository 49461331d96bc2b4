"""The course of sample_diffusion.py: what is asked -> model -> pictures as they come -> one array.

Everything that can be checked without torch is reported before torch is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldm.errors import UserError
from ldm.paths import real_path
from ldm.processor import respect_quota
from ldm.programs.console import Console, exit_codes
from ldm.programs.start import beginning
from ldm.settings.command_line import parse
from ldm.settings.option import flag_of
from ldm.settings.samples import SampleProgramSettings

if TYPE_CHECKING:  # these import NumPy, OmegaConf and torch, which --help can do without
    import torch
    from omegaconf import DictConfig
    from torch import nn

    from ldm.checkpoint.folders import ModelFiles
    from ldm.models.diffusion.classifier import NoisyLatentImageClassifier
    from ldm.pipelines.samples import SampleRun
    from ldm.programs.sample_folder import SampleFolder

# What a continued run may have otherwise: pictures do not depend on it.
CHANGEABLE = ("earlier", "n_samples", "batch_size", "device", "trust_config")
_UNTRANSLATED = {"prompt_lang": "none", "glossary": None, "translator": None}


def run_sampling(description: str, argv: Sequence[str] | None = None) -> int:
    """Draw samples; return the exit code: 0, 2 for a user's error, 130 for Ctrl-C.

    Args:
        description: First lines of ``--help``.
        argv: Arguments without the program's name; None takes ``sys.argv``.
    """
    console = Console(SampleProgramSettings.program, sys.stdout, sys.stderr)
    with exit_codes(console, lambda: "what is finished is kept") as ending:
        respect_quota()
        given = parse(SampleProgramSettings, description, argv)
        settings, folder = read_settings(given)
        _Program(console, settings, folder).run()
    return ending.code


def read_settings(given: Mapping[str, Any]) -> tuple[SampleProgramSettings, SampleFolder | None]:
    """Return what a command line asks for, checked, and the folder of a run that goes on.

    Args:
        given: Settings given explicitly, by field name.

    Raises:
        UserError: A value is out of range, or a continued run is to be another one.
    """
    values, folder = dict(given), None
    if "earlier" in values:
        folder, values = _recorded(values)
    settings = SampleProgramSettings(**values)
    settings.validate()
    return settings, folder


def _recorded(values: dict[str, Any]) -> tuple[SampleFolder, dict[str, Any]]:
    """Return the folder to go on with, and what its run was asked for, changed as it may be."""
    from ldm.programs.sample_folder import SampleFolder

    overrides = values.pop("overrides", ())
    others = [flag_of(SampleProgramSettings, name) for name in values if name not in CHANGEABLE]
    others += overrides
    if others:
        may = ", ".join(flag_of(SampleProgramSettings, name) for name in CHANGEABLE[1:])
        raise UserError(
            f"{others[0]} was given with --continue, which goes on as the run began; expected "
            f"only {may} beside it; leave the rest out"
        )
    folder = SampleFolder(values.pop("earlier"))
    # Earlier versions had none of these.
    recorded = {"watermark": "off", **_UNTRANSLATED, **folder.read_config()}
    if recorded.keys() != SampleProgramSettings().record().keys():
        raise UserError(
            f"--continue {folder.folder}: its settings were not written by this version; "
            "expected that of its own runs; begin a new one with --resume"
        )
    for name in ("class_label", "overrides"):
        recorded[name] = tuple(recorded[name])
    return folder, {**recorded, **values}


class _Program:
    def __init__(
        self, console: Console, settings: SampleProgramSettings, folder: SampleFolder | None
    ) -> None:
        self.console, self.settings, self.folder = console, settings, folder

    def run(self) -> None:
        """Load, draw, and write the array, also of what an interrupted run has finished."""
        from ldm.checkpoint.folders import find_model_files

        settings = self.settings
        for notice in settings.notices():
            self.console.warn(notice)
        trust = settings.trust_config
        files = find_model_files(settings.resume, config=settings.config, trust=trust)
        if self.folder is None:
            config = files.load_config(settings.overrides)
        else:  # what a continued run's record names, nobody has given
            files = replace(files, given=trust, remedy="")
            config = files.load_config(recorded=settings.overrides)
        with beginning():
            run = self._load(files, config)
        folder = self._open(files)
        first = folder.next_number()
        if first >= settings.n_samples:
            self.console.say(f"{first} samples are there; {settings.n_samples} were asked.")
        else:
            self._say_what(run, files)
        labelled = bool(settings.class_label)
        from ldm.pipelines.postprocess import Watermark, telling

        mark = telling(Watermark.of(settings.watermark), self.console.observe)
        try:
            for number, picture in run.pictures(first):
                folder.save(mark(picture), number)
        finally:
            self.console.close()
            array = folder.write_array(settings.label if labelled else None)
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

        device = str(self._settled(resolve_device(self.settings.device)))
        model = self._load_one(config, files, device, use_ema=self.settings.use_ema)
        classifier = self._load_classifier(model, device)
        return SampleRun(model, self._readable(config, files), self.console.observe, classifier)

    def _settled(self, device: torch.device) -> torch.device:
        """Replace ``--precision auto`` by what it stands for, which the run's record then has."""
        from ldm.pipelines.precision import settled

        name, words = settled(self.settings.precision, device)
        if words:
            self.console.say(words)
            self.settings = replace(self.settings, precision=name)
        return device

    def _readable(self, config: DictConfig, files: ModelFiles) -> SampleProgramSettings:
        """Return the settings with the prompt as the model is to read it."""
        from ldm.pipelines.known_words import notices_on_unknown, unlisted_words
        from ldm.pipelines.model_entries import known_words_of, languages_of
        from ldm.pipelines.progress import notices_on_language
        from ldm.pipelines.translating import in_models_language
        from ldm.settings.generation import Txt2ImgSettings

        own = self.settings
        if own.prompt is None:
            return own
        named = {name: getattr(own, name) for name in ("prompt", *_UNTRANSLATED)}
        languages = languages_of(config, files.ckpt)
        settings, _ = in_models_language(Txt2ImgSettings(**named), (), languages)
        unknown = unlisted_words(known_words_of(config, files.ckpt), settings.prompt)
        for notice in (*notices_on_language(settings), *notices_on_unknown(unknown)):
            self.console.observe(notice)
        return replace(own, prompt=settings.prompt)

    def _load_classifier(self, model: nn.Module, device: str) -> NoisyLatentImageClassifier | None:
        from ldm.checkpoint.folders import find_model_files

        if self.settings.classifier is None:
            return None
        files = find_model_files(
            self.settings.classifier, "--classifier", trust=self.settings.trust_config
        )
        classifier = self._load_one(files.load_config(), files, device)
        _check_classifier(classifier, model, self.settings)
        return classifier

    def _load_one(
        self, config: DictConfig, files: ModelFiles, device: str, *, use_ema: bool = False
    ) -> Any:
        import torch

        from ldm.checkpoint.load import load_model
        from ldm.pipelines.phases import memory_for

        other = "free some" if device == "cpu" else "use --device cpu"
        with memory_for(f"the weights of {files.ckpt}", torch.device(device), other):
            model, report = load_model(config, files.ckpt, use_ema=use_ema, device=device)
        for text in report.warnings():
            self.console.warn(text)
        return model

    def _open(self, files: ModelFiles) -> SampleFolder:
        """Return the folder to write into, with the run's settings in it."""
        from ldm.checkpoint.io import read_checkpoint
        from ldm.programs.sample_folder import SampleFolder

        folder, logdir = self.folder, self.settings.logdir
        if folder is None:
            own = files.folder
            logdir = own if logdir is None else Path(logdir) / real_path(own).name
            step = read_checkpoint(files.ckpt).global_step or 0
            folder = SampleFolder.new(logdir, step)
        folder.write_config(self.settings.record())
        return folder


def _check_classifier(classifier: Any, model: nn.Module, settings: SampleProgramSettings) -> None:
    """Check that a classifier judges what the model diffuses.

    Raises:
        UserError: It does not.
    """
    from ldm.models.diffusion.classifier import NoisyLatentImageClassifier

    where = f"--classifier {settings.classifier}"
    if not isinstance(classifier, NoisyLatentImageClassifier):
        raise UserError(
            f"{where}: a {type(classifier).__name__} is there; expected a "
            "NoisyLatentImageClassifier; check the path"
        )
    worst = max(settings.class_label)
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
