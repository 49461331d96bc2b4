"""Pictures by the diffusers library, with this project's seeds, progress and metadata.

Every picture has its own CPU generator, as with ``--seed_mode per-image``: picture i has the seed
``seed + i`` in any batch, and its initial latents are those of the project's own programs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
import transformers

from ldm.checkpoint.claims import within_budget
from ldm.errors import UserError
from ldm.pipelines.batches import Batch
from ldm.pipelines.infotext import Source, write_parameters
from ldm.pipelines.phases import half_of, memory_for, way_out
from ldm.pipelines.postprocess import Watermark
from ldm.pipelines.progress import Notice, Observer, Picture, Progress, notices_on_language
from ldm.settings.samplers import k_samplers
from optimizedSD.by_diffusers.folder import DiffusersFolder
from optimizedSD.by_diffusers.settings import OUR_SPACINGS, SCHEDULERS, DiffusersSettings

# Our choice of classes: those that a folder's model_index.json names could be any.
NETWORKS = {
    "unet": diffusers.UNet2DConditionModel,
    "vae": diffusers.AutoencoderKL,
    "text_encoder": transformers.CLIPTextModel,
}


def load(folder: DiffusersFolder, settings: DiffusersSettings, device: torch.device) -> Any:
    """Load a folder's pipeline, set its sampler, and put it on the device as ``--offload`` says.

    Raises:
        UserError: the folder is incomplete, the device has too little memory or none of its own,
            or a library is missing.
    """
    options = {
        "torch_dtype": half_of(device, settings.precision) or torch.float32,
        "variant": folder.variant,
        "use_safetensors": True,  # the libraries would unpickle others by themselves
    }
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        with within_budget():
            pipe = _assemble(folder, options)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"--model {folder.path} cannot be loaded ({_first_line(error)}); expected a complete "
            "diffusers folder; fetch the model again"
        ) from error
    pipe.scheduler = make_scheduler(settings.sampler, pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    with memory_for(f"the weights of {folder.path}", device, "add --offload model or group"):
        put_on_device(pipe, settings.offload, device)
    return pipe


def _assemble(folder: DiffusersFolder, options: dict[str, Any]) -> Any:
    parts = {name: _load_network(folder, name, cls, options) for name, cls in NETWORKS.items()}
    parts["tokenizer"] = _load(transformers.CLIPTokenizer, folder, "tokenizer")
    parts |= _load_checker(folder, options)
    return diffusers.StableDiffusionPipeline(
        **parts,
        scheduler=_folder_scheduler(folder),
        requires_safety_checker=parts["safety_checker"] is not None,
    )


def _load(cls: Any, folder: DiffusersFolder, name: str, **options: Any) -> Any:
    return cls.from_pretrained(folder.path, subfolder=name, local_files_only=True, **options)


def _load_network(
    folder: DiffusersFolder, name: str, cls: Any, options: dict[str, Any]
) -> torch.nn.Module:
    """Load one network; without this check the libraries only log that weights stay random."""
    part, found = _load(cls, folder, name, output_loading_info=True, **options)
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{name} lacks {len(missing)} weights, the first is {missing[0]}")
    return part


def _load_checker(folder: DiffusersFolder, options: dict[str, Any]) -> dict[str, Any]:
    """Load the folder's own safety checker with its preparation of pictures, if it has one."""
    if not folder.has_checker:
        return {"safety_checker": None, "feature_extractor": None}
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

    checker = _load_network(folder, "safety_checker", StableDiffusionSafetyChecker, options)
    extractor = _load(transformers.CLIPImageProcessor, folder, "feature_extractor")
    return {"safety_checker": checker, "feature_extractor": extractor}


def _folder_scheduler(folder: DiffusersFolder) -> Any:
    """Make the scheduler that a folder describes, one of the diffusers library's own.

    Raises:
        ValueError: It names another class.
    """
    config = folder.scheduler
    kind = config.get("_class_name")
    named = isinstance(kind, str) and kind.isidentifier() and kind.endswith("Scheduler")
    cls = getattr(diffusers, kind, None) if named else None
    if not isinstance(cls, type) or not issubclass(cls, diffusers.SchedulerMixin):
        raise ValueError(f"scheduler_config.json names {kind!r}, no scheduler of diffusers")
    return cls.from_config(config)


def make_scheduler(sampler: str, config: Any) -> Any:
    """Make diffusers' counterpart of one of our samplers, with the folder's noise schedule.

    Raises:
        UserError: it needs a library that is not installed.
    """
    name = SCHEDULERS[sampler]
    # Ours begins PLMS without Runge-Kutta steps, as the reference does.
    options = {"skip_prk_steps": True} if name == "PNDMScheduler" else {}
    try:
        return getattr(diffusers, name).from_config(config, **options)
    except ImportError as error:
        raise _missing(f"--sampler {sampler}", error) from error


def put_on_device(pipe: Any, offload: str, device: torch.device) -> None:
    """Put a pipeline on a device: all of it at once, or each part when its turn comes.

    Raises:
        UserError: the device has no memory of its own, or a library is missing.
    """
    if offload == "none":
        pipe.to(device)
        return
    if device.type == "cpu":
        raise UserError(
            f"--offload {offload} was given, and this run is on the CPU, which has no memory of "
            "its own to save; expected a GPU; leave --offload out"
        )
    try:
        if offload == "group":
            pipe.enable_group_offload(
                onload_device=device,
                offload_device=torch.device("cpu"),
                offload_type="leaf_level",
                use_stream=device.type == "cuda",
            )
        elif offload == "model":
            pipe.enable_model_cpu_offload(device=device)
        else:
            pipe.enable_sequential_cpu_offload(device=device)
    except ImportError as error:
        raise _missing(f"--offload {offload}", error) from error


def _missing(flag: str, error: ImportError) -> UserError:
    return UserError(
        f"{flag} was given, but a library that it needs is missing ({_first_line(error)}); "
        'expected the extra "diffusers"; run pip install -e ".[diffusers]"'
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@dataclass
class Run:
    """One call: draws batches of prompts, picture by picture.

    Attributes:
        pipe: The pipeline that ``load`` returned.
        folder: Its folder.
        settings: The run's settings; ``seed``, ``H`` and ``W`` are set.
        device: The device that computes.
        batches: The prompts, in batches.
        observer: Receives notices and progress.
    """

    pipe: Any
    folder: DiffusersFolder
    settings: DiffusersSettings
    device: torch.device
    batches: list[Batch]
    observer: Observer

    def __post_init__(self) -> None:
        self.watermark = Watermark.of(self.settings.watermark, self.settings.format)
        self.total = sum(len(batch.prompts) for batch in self.batches)
        self.done = 0
        self.source = Source(
            model=self.folder.name,
            fingerprint=self.folder.fingerprint,
            device=self.device.type,
            size=(self.settings.H, self.settings.W),
        )

    def pictures(self) -> Iterator[Picture]:
        """Draw, yielding the pictures of each batch once it is done.

        Raises:
            UserError: the device's memory does not suffice, or a picture is NaN.
        """
        self._send_notices()
        settings = self.settings
        for batch in self.batches:
            what = f"pictures of {settings.W}x{settings.H}, {len(batch.prompts)} at a time,"
            advice = "give a smaller --n_samples or smaller pictures, or add --offload"
            with memory_for(what, self.device, advice):
                pixels, flags = self._draw(batch)
            self.done += len(batch.prompts)
            for row, flagged in enumerate(flags):
                yield self._picture(batch, row, pixels[row], flagged)

    def _draw(self, batch: Batch) -> tuple[np.ndarray, list[bool]]:
        """Draw a batch: uint8 (B, H, W, 3), and whether the folder's checker blacked out each."""
        settings, seeds = self.settings, [self._seed(batch, n) for n in range(len(batch.prompts))]
        out = self.pipe(
            prompt=list(batch.prompts),
            negative_prompt=[settings.negative_prompt] * len(batch.prompts),
            height=settings.H,
            width=settings.W,
            num_inference_steps=settings.ddim_steps,
            guidance_scale=settings.scale,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            output_type="np",
            callback_on_step_end=self._progress(len(batch.prompts)),
        )
        if not np.isfinite(out.images).all():
            half = self.pipe.unet.dtype != torch.float32
            raise UserError(
                "a picture came out as NaN; expected finite numbers; "
                f"{way_out(self.pipe.unet, torch.float16 if half else None)}"
            )
        flags = out.nsfw_content_detected or [False] * len(batch.prompts)
        return (out.images * 255).round().astype(np.uint8), flags

    def _seed(self, batch: Batch, row: int) -> int:
        return self.settings.seed + batch.places[row].index

    def _progress(self, rows: int) -> Any:
        """Return diffusers' callback for the end of a step, for a batch of ``rows`` pictures."""
        steps = self.settings.ddim_steps

        def step_ended(pipe: Any, number: int, _: Any, changed: dict) -> dict:
            # Some samplers call the model more than once a step, and this after each call.
            taken = steps * (number + 1) // pipe.num_timesteps
            done = steps * self.done + rows * taken
            drawn = self.done + rows * (taken == steps)
            self.observer(Progress(done, steps * self.total, drawn, self.total))
            return changed

        return step_ended

    def _picture(self, batch: Batch, row: int, plain: np.ndarray, flagged: bool) -> Picture:
        place, prompt, seed = batch.places[row], batch.prompts[row], self._seed(batch, row)
        if flagged:
            text = f"picture {place.index + 1} was blacked out by the model's own safety checker"
            self.observer(Notice(text, warning=True))
        described = self.settings.described(prompt, seed, self._spacing)
        return Picture(
            pixels=self.watermark(plain),
            plain=plain,
            prompt=prompt,
            seed=seed,
            place=place,
            parameters=write_parameters(described, self.source, place),
            flagged=flagged,
        )

    @property
    def _spacing(self) -> str:
        """This project's name for the spacing of the steps in the folder's scheduler."""
        config = self.pipe.scheduler.config
        if config.get("use_karras_sigmas") and self.settings.sampler in k_samplers():
            return "karras"
        return OUR_SPACINGS[config.get("timestep_spacing", "leading")]

    def _send_notices(self) -> None:
        """Send the notices that are known before the first step."""
        if obstacle := self.watermark.obstacle(self.settings.H, self.settings.W):
            self.observer(obstacle)
        for notice in notices_on_language(self.settings):
            self.observer(notice)
        prompts = [prompt for batch in self.batches for prompt in batch.prompts]
        for text in dict.fromkeys([self.settings.negative_prompt, *prompts]):
            if unused := self._unused_end(text):
                limit = f"{self.pipe.tokenizer.model_max_length} tokens (with start and end)"
                text = f"a prompt is longer than {limit}; this end of it is not used: {unused!r}"
                self.observer(Notice(text, warning=True))

    def _unused_end(self, prompt: str) -> str:
        """Return the end of a prompt that the text encoder does not read."""
        tokenizer = self.pipe.tokenizer
        with contextlib.suppress(TypeError):
            ids = tokenizer(prompt, truncation=False, verbose=False).input_ids
            return tokenizer.decode(ids[tokenizer.model_max_length - 1 : -1]).strip()
        return ""
