"""Which model a run uses, and what its configuration says about the pictures it makes.

Reads YAML only: no torch and no weights, so that bad sizes and paths are reported at once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig

import ldm
from ldm.budgets import MODEL_SIDE
from ldm.checkpoint.default_config import default_config, own_config
from ldm.checkpoint.diffusers.json_files import INDEX, find_weights
from ldm.checkpoint.folders import check_model
from ldm.digests import remembered_hash
from ldm.errors import UserError
from ldm.paths import ERRORS, exists, file_fault, is_file, is_folder, real_path, reason
from ldm.pipelines.model_entries import Entries, known_words_of, languages_of, sampling_of
from ldm.settings.generation import GenerationSettings, Txt2ImgSettings
from ldm.settings.model_kind import INPAINT, KINDS, ModelFacts, ModelKind
from ldm.settings.option import flag_of

ROOT = Path(ldm.__file__).resolve().parents[1]
V1_CHECKPOINTS = (
    "models/ldm/stable-diffusion-v1/model.ckpt",
    "models/ldm/stable-diffusion-v1/model.safetensors",
)
V1_INPAINTING_CHECKPOINT = "models/ldm/stable-diffusion-v1/sd-v1-5-inpainting.ckpt"
FILL_CONFIG, FILL_CHECKPOINT = (
    "models/ldm/inpainting_big/config.yaml",
    "models/ldm/inpainting_big/last.ckpt",
)
DEMO_CONFIG, DEMO_CHECKPOINT = "models/ldm/demo/config.yaml", "models/ldm/demo/model.safetensors"
LAION_CONFIG = "configs/latent-diffusion/txt2img-1p4B-eval.yaml"
LAION_CHECKPOINT = "models/ldm/text2img-large/model.ckpt"
LAION_OUTDIR = "outputs/txt2img-samples-laion400m"
HOW_TO_GET_V1 = "python scripts/download_models.py sd-v1-4"
HOW_TO_GET_FILL = (
    f"wget -O {FILL_CHECKPOINT} 'https://heibox.uni-heidelberg.de/f/4d9ac7ea40c64582b7c9/?dl=1'"
)
# Values of cond_stage_key whose encoders are given class numbers or boxes.
TEXTLESS_KEYS = ("class_label", "cls", "coordinates_bbox")

Settings = TypeVar("Settings", bound=GenerationSettings)


@dataclass(frozen=True)
class ModelChoice:
    """A configuration, its weights, and the shape of the pictures they make.

    Attributes:
        config: The whole YAML.
        config_path: The file that it was read from.
        ckpt_path: The weights.
        size: The side in pixels that the model was made for.
        channels: Latent channels.
        factor: Downsampling factor from picture to latent.
        multiple: Sides of pictures must be multiples of it, in pixels.
        timesteps: Length of the noise schedule, in steps.
        kind: Which pictures it draws, and with what.
        inputs: Input channels of its UNet.
        languages: What its text encoder reads, as two-letter codes.
        sampling: Settings that suit it, by field name, where its YAML tells.
        knows: The words that it learned, where its YAML lists them; empty is any.
        notice: A sentence for the user when the model is not the one expected.
    """

    config: DictConfig
    config_path: Path
    ckpt_path: Path
    size: int
    channels: int
    factor: int
    multiple: int
    timesteps: int
    kind: ModelKind
    inputs: int
    languages: tuple[str, ...] = ("en",)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    knows: tuple[str, ...] = ()
    notice: str | None = None

    @property
    def name(self) -> str:
        """The model's name in metadata: the file's name, or the folder's if that says more."""
        if is_folder(self.ckpt_path):
            return real_path(self.ckpt_path).name
        stem = self.ckpt_path.stem
        return real_path(self.ckpt_path).parent.name if stem in ("model", "last") else stem

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The checkpoint's hash, computed in the background from the first access on.

        For a diffusers folder it is the hash of the first file of the UNet's weights.
        """
        folder = is_folder(self.ckpt_path)
        return Fingerprint(find_weights(self.ckpt_path, "unet")[0] if folder else self.ckpt_path)


class Fingerprint:
    """The SHA-256 of a file, computed in the background: a 4 GB checkpoint takes seconds."""

    def __init__(self, path: Path):
        self._path, self._digest = path, ""
        self._error: Exception | None = None
        # A daemon, so that Ctrl-C need not wait for it.
        self._thread = threading.Thread(target=self._compute, daemon=True)
        self._thread.start()

    def _compute(self) -> None:
        try:
            self._digest = remembered_hash(self._path)
        except ERRORS as error:
            self._error = error

    @property
    def short(self) -> str:
        """The first ten hexadecimal digits, as AUTOMATIC1111 names models.

        Raises:
            UserError: The file could not be read to its end.
        """
        self._thread.join()
        if self._error is not None:
            raise UserError(
                f"model {self._path} cannot be read any more ({reason(self._error)}); expected the "
                "file that the run was begun with; put it back"
            )
        return self._digest[:10]


def find(path: str | Path) -> Path:
    """Return ``path`` if it exists, else the same path under the repository if that exists.

    A path that exists in neither place is returned unchanged.
    """
    under_root = ROOT / path
    return under_root if not exists(path) and exists(under_root) else Path(path)


def choose_model(settings: GenerationSettings) -> ModelChoice:
    """Find the model that ``settings`` ask for, or else the first one that is installed.

    In this order: ``laion400m``; ``ckpt`` and ``config`` as given; without text, latent-diffusion's
    inpainting model; for inpainting, SD v1's inpainting checkpoint in its usual place; SD v1 in
    its usual place; the demo model that comes with the project.

    Raises:
        UserError: a file is missing, or the model cannot draw such pictures.
    """
    choice = find_model(settings)
    check_kind(choice, settings)
    return choice


def find_model(settings: GenerationSettings) -> ModelChoice:
    """Find a model as ``choose_model`` does, without checking that it can draw the pictures.

    Raises:
        UserError: a file is missing, or the configuration is of no kind that can draw.
    """
    config = settings.config and find(settings.config)
    given = settings.trust_config or bool(config)
    if config and (fault := file_fault(config)):
        raise UserError(f"config {settings.config} {fault}; expected a YAML file; check the path")
    if getattr(settings, "laion400m", False):
        ckpt = check_model(find(LAION_CHECKPOINT), LAION_CHECKPOINT, "--laion400m")
        return _describe(ckpt, find(LAION_CONFIG), given=given)
    if settings.ckpt is not None:
        ckpt = check_model(find(settings.ckpt), settings.ckpt, "--ckpt")
        return _describe(ckpt, config, given=True) if config else _by_itself(ckpt, given=given)
    if not settings.wants_text:
        return _fill_model(settings.config, given=given)
    made_for_it = [V1_INPAINTING_CHECKPOINT] if settings.draws_with(INPAINT) else []
    usual = [*(made_for_it if settings.config is None else []), *V1_CHECKPOINTS]
    standard = [path for path in map(find, usual) if is_file(path)]
    if standard:
        config = config or find(default_config(standard[0]))
        return _describe(standard[0], config, given=given)
    if settings.config is not None:
        raise UserError(
            f"--config {settings.config} was given without --ckpt, and {V1_CHECKPOINTS[0]} is not "
            f"there; expected weights for it; add --ckpt FILE or run `{HOW_TO_GET_V1}`"
        )
    return _demo(given=given)


def _fill_model(config: str | None, *, given: bool) -> ModelChoice:
    ckpt = find(FILL_CHECKPOINT)
    if not is_file(ckpt):
        raise UserError(
            f"no --prompt was given, and {FILL_CHECKPOINT}, which fills without one, is not there; "
            f"expected one of the two; add --prompt TEXT, or run `{HOW_TO_GET_FILL}`"
        )
    return _describe(ckpt, find(config or FILL_CONFIG), given=given)


def check_kind(choice: ModelChoice, settings: GenerationSettings) -> None:
    """Check that a model can draw what ``settings`` ask for.

    Raises:
        UserError: it is made for another kind of pictures.
    """
    if settings.draws_with(choice.kind):
        return
    what, program = choice.kind.made_for(choice.inputs)
    raise UserError(
        f"config {choice.config_path} describes {what}; expected {settings.wanted}; use "
        f"{program}, or give another --ckpt"
    )


def _demo(*, given: bool) -> ModelChoice:
    ckpt = find(DEMO_CHECKPOINT)
    if not is_file(ckpt):
        raise UserError(
            f"no model was given and neither {V1_CHECKPOINTS[0]} nor {DEMO_CHECKPOINT} is there; "
            f"expected one of them; run `{HOW_TO_GET_V1}` or add --ckpt FILE"
        )
    choice = _describe(ckpt, find(DEMO_CONFIG), given=given)
    notice = (
        "No Stable Diffusion v1 checkpoint found: drawing with the small demo model. "
        f"To get SD v1: {HOW_TO_GET_V1}"
    )
    return replace(choice, notice=notice)


def _by_itself(ckpt: Path, *, given: bool) -> ModelChoice:
    """Describe a model that was given without a configuration, and say where none is beside it."""
    if is_folder(ckpt) or own_config(ckpt):
        return _describe(ckpt, config_beside(ckpt), given=given)
    assumed = default_config(ckpt)  # looks into the weights
    words = f"No YAML is beside {ckpt}, so {assumed} is assumed; --config FILE names another."
    return replace(_describe(ckpt, find(assumed), given=given), notice=words)


def config_beside(ckpt: Path) -> Path:
    """Return the YAML beside a checkpoint, or else Stable Diffusion's own.

    For a diffusers folder, its index file is returned, which leads to the others.
    """
    if is_folder(ckpt):
        return ckpt / INDEX
    return own_config(ckpt) or find(default_config(ckpt))


def _describe(ckpt: Path, config_path: Path, *, given: bool) -> ModelChoice:
    entries = Entries(config_path, given=given)
    channels = entries.number("channels", 3)
    inputs = entries.number("unet_config.params.in_channels", channels)
    # Each level but the last halves the sides, in the autoencoder and in the UNet alike.
    factor = 2 ** (entries.length("first_stage_config.params.ddconfig.ch_mult") - 1)
    levels = entries.length("unet_config.params.channel_mult", [1, 2, 4, 8])
    return ModelChoice(
        config=entries.config,
        config_path=config_path,
        ckpt_path=ckpt,
        size=entries.number("image_size", most=MODEL_SIDE // factor) * factor,
        channels=channels,
        factor=factor,
        multiple=factor * 2 ** (levels - 1),
        timesteps=entries.number("timesteps", 1000),
        kind=_kind(entries, channels, inputs),
        inputs=inputs,
        languages=languages_of(entries.config, config_path),
        sampling=sampling_of(entries.config, config_path),
        knows=known_words_of(entries.config, config_path),
    )


def _kind(entries: Entries, channels: int, inputs: int) -> ModelKind:
    """Return the kind of model; ``channels`` are the latents', ``inputs`` the UNet's."""
    encoder = entries.get("cond_stage_config")
    has_class = isinstance(encoder, DictConfig)
    facts = ModelFacts(
        channels,
        inputs,
        encoder=str(encoder.get("target")) if has_class else "",
        word="" if has_class else str(encoder),
        conditioning_key=entries.get("conditioning_key", "concat"),
    )
    if has_class and facts.sees_latents_alone:
        _require_text(entries)
    for kind in KINDS:
        if kind.recognises(facts):
            return kind
    raise _of_no_kind(entries.path, facts)


def _require_text(entries: Entries) -> None:
    key = entries.get("cond_stage_key", "")
    if key in TEXTLESS_KEYS:
        raise UserError(
            f"config {entries.path} describes a model conditioned on {key!r}, not text; expected "
            "text conditioning; use scripts/sample_diffusion.py for classes, or give another "
            "--config"
        )


def _of_no_kind(path: Path, facts: ModelFacts) -> UserError:
    if not facts.encoder:
        return UserError(
            f"config {path} describes a model without a text encoder ({facts.word}); expected "
            "text conditioning; give another --config"
        )
    channels = facts.channels
    return UserError(
        f"config {path} describes a UNet with {facts.inputs} input channels for latents with "
        f"{channels}; expected {channels}, or {2 * channels + 1} with conditioning_key hybrid for "
        "inpainting; give another --config"
    )


def resolve(settings: Settings, choice: ModelChoice) -> Settings:
    """Fill in what ``settings`` leave to the model, and check the rest against it.

    Raises:
        UserError: a size, channel count or step count that the model does not support.
    """
    for name, own in (("C", choice.channels), ("f", choice.factor)):
        asked = getattr(settings, name)
        if asked not in (None, own):
            raise UserError(
                f"--{name} {asked} was given; the model of {choice.config_path} has {own}; "
                f"leave --{name} out"
            )
    if settings.ddim_steps > choice.timesteps:
        raise UserError(
            f"--ddim_steps {settings.ddim_steps} was given; the model has {choice.timesteps} "
            f"steps; give {choice.timesteps} or fewer"
        )
    _check_text(settings, choice)
    settings = replace(settings, C=choice.channels, f=choice.factor)
    own_sized = isinstance(settings, Txt2ImgSettings) and not settings.starts_from_picture
    own = choice.size if own_sized else None
    sides = {side: getattr(settings, side, None) or own for side in ("H", "W")}
    sides = {side: pixels for side, pixels in sides.items() if pixels is not None}
    for side, pixels in sides.items():
        _check_side(f"--{side}", pixels, choice.multiple)
    return replace(settings, **sides)


def _check_text(settings: GenerationSettings, choice: ModelChoice) -> None:
    """Check that a model without a text encoder is asked for nothing that needs one."""
    check_kind(choice, settings)
    if choice.kind.takes_text:
        return
    without = {"prompt": "", "negative_prompt": "", "scale": 1.0, "strength": 1.0}
    for name, neutral in {**without, "from_file": None}.items():
        given = getattr(settings, name, neutral)
        if given != neutral:
            shown = repr(given) if isinstance(given, str) else given
            raise UserError(
                f"{flag_of(settings, name)} {shown} was given; the model of {choice.config_path} "
                "takes no text and starts from noise alone; leave it out, or give a --ckpt that "
                "draws from text"
            )


def _check_side(flag: str, pixels: int, multiple: int) -> None:
    if pixels % multiple == 0:
        return
    below = max(pixels // multiple, 1) * multiple
    raise UserError(
        f"{flag} {pixels} was given; expected a multiple of {multiple}; "
        f"the nearest are {below} and {below + multiple}"
    )
