"""Draw pictures from text, or from text and a picture: the entry point of every program.

    settings -> prepare -> Request -> generate
             -> Run: (per batch) text encoding -> sampler steps -> decoding
             -> safety check -> watermark -> Picture with the parameters that redraw it

Nothing here prints or writes files: pictures are yielded, everything else goes to an observer.

Example:
    pipeline = Pipeline.load()  # the model that the scripts use; or Pipeline.load("own.ckpt")
    for picture in pipeline.generate(pipeline.settings(prompt="a red apple", n_iter=1)):
        save_picture(picture.pixels, f"{picture.place.index}.png", metadata=picture.parameters)

    sketch = Image.open("sketch.png")
    settings = Img2ImgSettings(prompt="a red apple", strength=0.6, seed_mode="per-image")
    first = next(pipeline.generate(settings, image=sketch))
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from PIL import Image

from ldm.checkpoint.load import load_model
from ldm.errors import UserError
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.pipelines.arithmetic import Arithmetic
from ldm.pipelines.batches import Place
from ldm.pipelines.init_image import InitImage
from ldm.pipelines.models import ModelChoice, find_model
from ldm.pipelines.phases import memory_for
from ldm.pipelines.progress import Notice, Observer, Picture, log_events
from ldm.pipelines.request import Request, prepare
from ldm.pipelines.run import Run
from ldm.safety.checker import SafetyChecker
from ldm.settings.generation import GenerationSettings, Txt2ImgSettings
from ldm.settings.suiting import suited_to

if TYPE_CHECKING:  # runs with the whole model on the device need no plans
    from ldm.modules.attention_control.controller import Controller
    from ldm.pipelines.adapting import Shelves
    from ldm.pipelines.cancelling import Cancel
    from ldm.pipelines.masks import Mask
    from ldm.pipelines.previewing import Glimpse, Glimpses
    from ldm.pipelines.staging import StagedModel, Staging

Settings = TypeVar("Settings", bound=GenerationSettings)


def resolve_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` into a device that exists.

    Raises:
        UserError: this machine, or this build of torch, has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):  # torch knows others: meta
        raise UserError(
            f"--device {name} is unknown; expected auto, cpu, cuda, cuda:N or mps; choose one"
        )
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            there = f"{count} CUDA device(s)" if count else "no CUDA device that torch can use"
            raise UserError(f"--device {name} was given; there is {there}; use --device cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps was given; it needs a Mac with Metal; use --device cpu")
    return device


class Pipeline:
    """A loaded model that draws: load once, generate as often as needed.

    One run at a time: the reference's seed mode uses torch's global generators.

    Args:
        model: A latent diffusion model in evaluation mode, on the device to use.
        choice: Which model it is.
        use_ema: Whether its weights are the checkpoint's EMA weights; pictures record it.
        staged: The model on the host, if its parts are to take turns on the device.
    """

    def __init__(
        self,
        model: LatentSpaceDiffusion,
        choice: ModelChoice,
        *,
        use_ema: bool = False,
        staged: StagedModel | None = None,
    ) -> None:
        self.model = model
        self.choice = choice
        self.use_ema = use_ema
        self.staged = staged
        self.alike: dict[Hashable, dict] = {}  # what ldm.pipelines.alike found out, by arithmetic
        self._checkers: dict[str, SafetyChecker] = {}
        self._arithmetic = Arithmetic(model, self.device, staged)

    @classmethod
    def load(
        cls,
        model: ModelChoice | str | Path | None = None,
        *,
        device: str = "auto",
        use_ema: bool = False,
        staging: Staging | None = None,
        observer: Observer = log_events,
    ) -> Pipeline:
        """Load a model.

        Args:
            model: A checkpoint, whose YAML is found as in ``choose_model`` and may name ldm's
                classes alone; what ``choose_model`` returned; or None for the default model. A
                model made for inpainting draws ``InpaintSettings`` only.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            use_ema: Use the checkpoint's averaged (EMA) weights.
            staging: Keep the model on the host and its parts on the device only while they
                compute; None keeps the whole model on the device, as a processor does always.
            observer: Called with warnings about the checkpoint.

        Raises:
            UserError: no such device, or the checkpoint lacks weights that its config needs.
        """
        where = resolve_device(device)
        if not isinstance(model, ModelChoice):
            model = find_model(Txt2ImgSettings(ckpt=None if model is None else str(model)))
        weights = f"the weights of {model.ckpt_path}"
        if staging is not None and where.type == "cpu":
            observer(staging.needless())
            staging = None
        home = where if staging is None else torch.device("cpu")
        with memory_for(weights, home, "use a smaller model or another --device"):
            made, report = load_model(model.config, model.ckpt_path, use_ema=use_ema, device=home)
            staged = None if staging is None else _stage(made, staging, where)
        for text in report.warnings():
            observer(Notice(text, warning=True))
        return cls(made, model, use_ema=use_ema, staged=staged)

    @property
    def device(self) -> torch.device:
        """Where pictures are computed."""
        return self.model.device if self.staged is None else self.staged.device

    def checker(self, policy: str) -> SafetyChecker:
        """Return the safety checker, ``on`` or ``off``; its weights stay loaded between runs."""
        if policy not in self._checkers:
            self._checkers[policy] = SafetyChecker(policy="off" if policy == "off" else "black")
        return self._checkers[policy]

    def settings(self, schema: type[Settings] = Txt2ImgSettings, **named: Any) -> Settings:
        """Make settings, with the model's own where none are named: what its YAML says suits it.

        Settings made without this are taken as they are; their defaults are the reference's.

        Args:
            schema: The settings class.
            **named: Settings by field name.

        Example:
            >>> Pipeline.load().settings(prompt="a red apple").scale  # doctest: +SKIP
            3.0
        """
        settings = schema(**named)
        return suited_to(settings.suited(self.choice.kind, named), self.choice.sampling, named)

    def prepare(
        self,
        settings: GenerationSettings,
        *,
        prompts: Sequence[str] | None = None,
        image: Image.Image | InitImage | None = None,
        mask: Image.Image | Mask | None = None,
        place: Place | None = None,
    ) -> Request:
        """Complete and check what a run of this model is to draw.

        Args:
            settings: What to draw. ``Img2ImgSettings`` start from a picture. Fields about the
                model and files (``ckpt``, ``device``, ``outdir``, ``from_image``, ...) are for
                programs and are ignored here.
            prompts: One per picture of an iteration; by default the settings' file or prompt.
            image: The picture to start from; by default the file ``settings.init_img``.
            mask: The part that ``InpaintSettings`` repaint, in white; by default the file
                ``settings.mask``. Everywhere else the pictures equal ``image``.
            place: Draw only the picture at this place of a run, as that run drew it.

        Raises:
            UserError: invalid settings, or files that cannot be read.
        """
        settings = replace(settings, use_ema=self.use_ema)
        given = {"prompts": prompts, "image": image, "mask": mask, "place": place}
        return prepare(settings, self.choice, **given)

    def generate(
        self,
        request: Request | GenerationSettings,
        *,
        observer: Observer = log_events,
        controller: Controller | None = None,
        cancel: Cancel | None = None,
        preview: Callable[[Glimpse], None] | None = None,
        every: float = 0.5,
        **given: Any,
    ) -> Iterator[Picture]:
        """Draw the pictures of a run, yielding each batch when it is done.

        Args:
            request: What ``prepare`` returned, or settings to prepare it from.
            observer: Called with each ``Notice`` and ``Progress``.
            controller: Reads or changes the model's attention, see
                ``ldm.modules.attention_control``.
            cancel: Ends the run where another thread asks for it, see
                ``ldm.pipelines.cancelling``; pictures that were yielded before are whole.
            preview: Called with small pictures of what is being drawn, see
                ``ldm.pipelines.previewing``.
            every: Least time between two of them, in seconds.
            **given: With settings: further keywords of ``prepare``.

        Raises:
            UserError: at once for what ``prepare`` finds; later if memory runs out or pictures
                come out as NaN.
            Cancelled: the run was cancelled.
            ValueError: the request was prepared for another model.
        """
        if not isinstance(request, Request):
            request = self.prepare(request, **given)
        elif given:
            raise TypeError(f"a request is complete; {', '.join(given)} belong to prepare()")
        run = self.run(request, observer, controller, cancel)
        run.glimpses = self.glimpses(preview, every, observer)
        return run.pictures()

    def glimpses(
        self, preview: Callable[[Glimpse], None] | None, every: float, observer: Observer
    ) -> Glimpses | None:
        """Return what shows runs as they are drawn, for ``generate``; None shows nothing."""
        if preview is None:
            return None
        from ldm.pipelines.previewing import Glimpses

        return Glimpses.of(self.choice, preview, every, observer)

    def run(
        self,
        request: Request,
        observer: Observer,
        controller: Controller | None = None,
        cancel: Cancel | None = None,
    ) -> Run:
        """Return the run that draws a request of this pipeline; see ``generate``.

        Raises:
            ValueError: The request was prepared for another model.
        """
        if request.choice is not self.choice:
            raise ValueError(
                f"the request is for {request.choice.ckpt_path}, this pipeline has "
                f"{self.choice.ckpt_path}; prepare the request with this pipeline"
            )
        if request.settings.precision not in ("full", "autocast"):
            from ldm.pipelines.precision import settle

            request = settle(request, self.device, observer)
        checker = self.checker(request.settings.safety_checker)
        shelves = None if request.adapters is None else self._shelves
        run = Run(
            self.model, request, self._arithmetic.of_run, checker, observer, controller, shelves
        )
        run.cancel = cancel
        return run

    @cached_property
    def _shelves(self) -> Shelves:
        from ldm.pipelines.adapting import Shelves

        return Shelves()


def _stage(model: LatentSpaceDiffusion, staging: Staging, device: torch.device) -> StagedModel:
    from ldm.pipelines.precision import settled
    from ldm.pipelines.staging import StagedModel

    staging = replace(staging, precision=settled(staging.precision, device)[0])
    return StagedModel(model, staging, device)
