"""Draw pictures from text, or from text and a picture: the one way for every program.

    settings -> model -> (per batch) text encoding -> sampler steps -> decoding
             -> safety check -> watermark -> Picture with the text that draws it again

Nothing here prints or writes files: pictures are yielded, everything else goes to an observer.

Example:
    pipeline = Pipeline.load()  # the model that the scripts use; or Pipeline.load("own.ckpt")
    for picture in pipeline.generate(Txt2ImgSettings(prompt="a red apple", n_iter=1)):
        save_picture(picture.pixels, f"{picture.place.index}.png", metadata=picture.parameters)

    sketch = Image.open("sketch.png")
    settings = Img2ImgSettings(prompt="a red apple", strength=0.6, seed_mode="per-image")
    first = next(pipeline.generate(settings, image=sketch))
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ldm.checkpoint.load import load_model
from ldm.errors import UserError
from ldm.images.io import check_finite, to_tensor
from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.models.diffusion.sampler import Sampler
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.pipelines.events import Notice, Observer, Picture, Progress, log_events
from ldm.pipelines.finish import Finisher, Marker
from ldm.pipelines.infotext import Source
from ldm.pipelines.inputs import InitImage, first_picture
from ldm.pipelines.masked_start import MaskedStart
from ldm.pipelines.masks import Mask
from ldm.pipelines.memory import memory_for
from ldm.pipelines.models import ModelChoice, choose_model, resolve
from ldm.pipelines.plan import Batch, Place, plan, read_prompts, replay
from ldm.pipelines.settings import GenerationSettings, Txt2ImgSettings
from ldm.pipelines.starts import ImageStart, NoiseStart
from ldm.rng import NoiseSource, seed_everything
from ldm.safety.checker import SafetyChecker
from ldm.types import Conditioning, EpsModel

FAR_ABOVE = 4  # times the model's own number of pixels
LONGEST_CUT = 500  # letters of a prompt's unused end that are shown


def resolve_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` into a device that is there.

    Raises:
        UserError: this machine, or this build of torch, has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(
            f"--device {name} is unknown; expected auto, cpu, cuda, cuda:N or mps; choose one"
        ) from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            there = f"{count} CUDA devices" if count else "no CUDA device that torch can use"
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
        use_ema: Its weights are the checkpoint's averages: pictures remember it.
    """

    def __init__(
        self, model: LatentDiffusion, choice: ModelChoice, *, use_ema: bool = False
    ) -> None:
        self.model = model
        self.choice = choice
        self.use_ema = use_ema
        self._checkers: dict[str, SafetyChecker] = {}

    @classmethod
    def load(
        cls,
        model: ModelChoice | str | Path | None = None,
        *,
        device: str = "auto",
        use_ema: bool = False,
        observer: Observer = log_events,
    ) -> Pipeline:
        """Load a model.

        Args:
            model: A checkpoint, whose YAML is looked for as by ``choose_model``; what that
                returned; or None for the model that is there.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            use_ema: Take the checkpoint's averaged weights.
            observer: Told of what is odd about the checkpoint.

        Raises:
            UserError: no such device, or the checkpoint is not a complete model of its config.
        """
        where = resolve_device(device)
        if not isinstance(model, ModelChoice):
            model = choose_model(Txt2ImgSettings(ckpt=None if model is None else str(model)))
        weights = f"the weights of {model.ckpt_path}"
        with memory_for(weights, where, "take a smaller model or another --device"):
            made, report = load_model(model.config, model.ckpt_path, use_ema=use_ema, device=where)
        for text in report.warnings():
            observer(Notice(text, warning=True))
        return cls(made, model, use_ema=use_ema)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def checker(self, policy: str) -> SafetyChecker:
        """Return the safety checker, ``on`` or ``off``; its weights stay loaded between runs."""
        if policy not in self._checkers:
            self._checkers[policy] = SafetyChecker(policy="off" if policy == "off" else "black")
        return self._checkers[policy]

    def generate(
        self,
        settings: GenerationSettings,
        *,
        prompts: Sequence[str] | None = None,
        image: Image.Image | InitImage | None = None,
        mask: Image.Image | Mask | None = None,
        place: Place | None = None,
        observer: Observer = log_events,
    ) -> Iterator[Picture]:
        """Draw the pictures of a run, yielding each batch as it is done.

        Args:
            settings: What to draw. ``Img2ImgSettings`` start from a picture. What concerns the
                model and files (``ckpt``, ``device``, ``outdir``, ``from_image``, ...) is there
                for programs and not looked at.
            prompts: One per picture of an iteration; by default the settings' file or prompt.
            image: The picture to start from; by default the file ``settings.init_img``.
            mask: What of it ``InpaintSettings`` draw anew: white is; by default the file
                ``settings.mask``. Elsewhere the pictures are equal to ``image``.
            place: Draw only the picture at this place of a run, as that run drew it.
            observer: Called with each ``Notice`` and ``Progress``.

        Raises:
            UserError: settings that cannot be, or pictures that came out as NaN.
        """
        settings = replace(resolve(settings, self.choice), use_ema=self.use_ema)
        settings.validate()
        image = first_picture(settings, image, mask)
        if image is not None:
            image = image.fit(self.choice.multiple)
        if place is None:
            batches = plan(settings, read_prompts(settings) if prompts is None else prompts)
        else:
            settings = replace(settings, n_samples=place.n_samples)
            batches = replay(place, settings.prompt)
        yield from _Run(self, settings, batches, image, observer).pictures()


class _Silenced:
    """Stands in for the model where only the sampler's random draws are wanted."""

    def __init__(self, model: EpsModel) -> None:
        self.num_timesteps = model.num_timesteps
        self.alphas_cumprod = model.alphas_cumprod
        self.parameterization = model.parameterization
        self.device = model.device
        self.q_sample = model.q_sample  # noises what a mask keeps

    def apply_model(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:  # noqa: ARG002
        """Predict nothing at once: (B, C, h, w) -> zeros (B, C, h, w)."""
        return torch.zeros_like(x)


class _Run:
    """One call of ``Pipeline.generate``."""

    def __init__(
        self,
        pipeline: Pipeline,
        settings: GenerationSettings,
        batches: list[Batch],
        image: InitImage | None,
        observer: Observer,
    ) -> None:
        self.model, self.settings, self.own_size = pipeline.model, settings, pipeline.choice.size
        self.batches, self.observer = batches, observer
        self.start = self._make_start(image)
        self.sampler = self._make_sampler(self.model)
        self.steps = self.start.steps(self.sampler)
        drawn = [batch for batch in batches if batch.kept]
        self.steps_total = self.steps * sum(len(batch.prompts) for batch in drawn)
        self.pictures_total = sum(len(batch.kept) for batch in drawn)
        self.steps_done = self.pictures_done = 0
        source = Source(
            model=pipeline.choice.name,
            fingerprint=pipeline.choice.fingerprint,
            device=self.model.device.type,
            size=self.start.size,
            init_image=image,
        )
        checker, marker = pipeline.checker(settings.safety_checker), Marker(settings.format)
        self.finisher = Finisher(settings, source, checker, marker, observer)

    def _make_start(self, image: InitImage | None) -> NoiseStart:
        settings = self.settings
        if image is None:
            return NoiseStart(settings, (settings.H, settings.W), self.model.device)
        for remark in (image.remark, image.mask and image.mask.remark):
            if remark:
                self.observer(Notice(remark))
        if image.mask is not None:
            return MaskedStart(settings, image, self.model)
        return ImageStart(settings, to_tensor(image.pixels), self.model)

    def _make_sampler(self, model: EpsModel) -> Sampler:
        settings = self.settings
        sampler = make_sampler(settings.sampler, model, spacing=settings.spacing)
        eta = settings.ddim_eta if settings.sampler == "ddim" else 0.0
        sampler.make_schedule(settings.ddim_steps, ddim_eta=eta, verbose=False)
        return sampler

    def pictures(self) -> Iterator[Picture]:
        self._remark()
        self.finisher.prepare()
        self._progress(0)
        seed_everything(self.settings.seed)
        # A model that trains draws with its averages, as the reference does.
        with self.model.ema_scope():
            with self._enough_memory(1):
                self.start.open()
            for batch in self.batches:
                noise = self.start.noise_for(batch.places)
                if not batch.kept:
                    self._draw_only(batch, noise)
                    continue
                with self._enough_memory(len(batch.prompts)):
                    decoded = self._draw(batch, noise)
                # What a caller draws between two pictures must not move the next batch.
                with torch.random.fork_rng(self._cuda_devices):
                    yield from self.finisher.pictures(batch, decoded)

    @property
    def _cuda_devices(self) -> list[torch.device]:
        return [self.model.device] if self.model.device.type == "cuda" else []

    def _remark(self) -> None:
        """Say what the user should know before it begins."""
        for text in self.settings.remarks():
            self.observer(Notice(text, warning=True))
        prompts = [text for batch in self.batches if batch.kept for text in batch.prompts]
        for text in dict.fromkeys([self.settings.negative_prompt, *prompts]):
            self._remark_on_length(text)
        height, width = self.start.size
        if height * width > FAR_ABOVE * self.own_size**2:
            text = (
                f"{width}x{height} is far above the {self.own_size}x{self.own_size} pixels that "
                "the model was made for: it takes long, and things may appear more than once"
            )
            self.observer(Notice(text, warning=True))
        if self.steps == 0:
            strength = f"--strength {self.settings.strength} of {self.settings.ddim_steps}"
            self.observer(Notice(f"{strength} steps leaves none to take: nothing is drawn anew."))

    def _remark_on_length(self, text: str) -> None:
        tokenizer = getattr(self.model.cond_stage_model, "tokenizer", None)
        cut = tokenizer.truncated(text) if hasattr(tokenizer, "truncated") else None
        if cut:
            limit = f"{tokenizer.max_length} tokens (with start and end)"
            rest = f" and {len(cut) - LONGEST_CUT} letters more" if len(cut) > LONGEST_CUT else ""
            text = f"a prompt is longer than {limit}; this end of it is not used: "
            self.observer(Notice(f"{text}{cut[:LONGEST_CUT]!r}{rest}", warning=True))

    def _enough_memory(self, rows: int) -> contextlib.AbstractContextManager:
        height, width = self.start.size
        what = f"pictures of {width}x{height}, {rows} at a time,"
        fewer = (
            "give a smaller --n_samples, or smaller pictures" if rows > 1 else "draw smaller ones"
        )
        return memory_for(what, self.model.device, fewer)

    def _precision(self) -> contextlib.AbstractContextManager:
        """float16 autocast on CUDA, where the reference has it; the CPU and MPS run float32."""
        kind = self.model.device.type
        if self.settings.precision == "autocast" and kind == "cuda":
            return torch.autocast(kind, dtype=torch.float16)
        return contextlib.nullcontext()

    @cached_property
    def _silent_sampler(self) -> Sampler:
        return self._make_sampler(_Silenced(self.model))

    def _draw_only(self, batch: Batch, noise: NoiseSource) -> None:
        """Take from the stream of random numbers what drawing ``batch`` takes."""
        if self.start.per_image:
            return
        for _ in self.start.walk(self._silent_sampler, noise, len(batch.prompts), None)[1]:
            pass

    @torch.no_grad()
    def _draw(self, batch: Batch, noise: NoiseSource) -> Tensor:
        """Draw one batch: (B, 3, H, W), about [-1, 1].

        The steps are taken in one go rather than yielded: a suspended generator would leave
        autocast switched on for its caller.
        """
        rows = len(batch.prompts)
        with self._precision():
            x, states = self.start.walk(self.sampler, noise, rows, **self._guidance(batch))
            for taken, state in enumerate(states, start=1):
                x = state.x
                self._progress(rows * taken)
            check_finite(x, "the latent of picture")
            decoded = self.model.decode_first_stage(x)
        self.steps_done += rows * self.steps
        self.pictures_done += len(batch.kept)
        self._progress(0)
        return decoded

    def _guidance(self, batch: Batch) -> dict[str, Any]:
        """Encode the prompts, and what guidance steers away from."""
        rows, scale = len(batch.prompts), self.settings.scale
        uncond = None
        if scale != 1.0:
            uncond = self.model.get_learned_conditioning(rows * [self.settings.negative_prompt])
        return {
            "cond": self.model.get_learned_conditioning(list(batch.prompts)),
            "unconditional_guidance_scale": scale,
            "unconditional_conditioning": uncond,
        }

    def _progress(self, steps: int) -> None:
        """Tell how far the run is: ``steps`` into the batch that is being drawn."""
        done = self.steps_done + steps
        self.observer(Progress(done, self.steps_total, self.pictures_done, self.pictures_total))
