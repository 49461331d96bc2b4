"""Many samples of one model: what they are conditioned on, and how they are drawn.

The condition is nothing, classes, or one text. Picture k depends on its number and the settings,
not on the batch that it is drawn in.
Shapes: B pictures, L D tokens and their width, C h w latent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.images.io import check_finite, to_uint8
from ldm.models.diffusion.ancestral import AncestralSampler
from ldm.models.diffusion.batch_conditioning import CLASS_KEYS
from ldm.models.diffusion.sampler import Sampler
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.pipelines.cancelling import Cancel, interruptible
from ldm.pipelines.phases import half_of, memory_for, way_out
from ldm.pipelines.precision import in_integers, weights_in
from ldm.pipelines.progress import Observer, Progress
from ldm.process.guidance import make_guider
from ldm.rng import PerImageNoise
from ldm.settings.samples import SampleSettings
from ldm.types import Conditioning, Guider

if TYPE_CHECKING:  # a class that Lightning trains; drawing imports no Lightning
    from ldm.models.diffusion.classifier import NoisyLatentImageClassifier


class SampleRun:
    """Samples of one model.

    Picture k comes from a generator of its own, seeded with ``settings.seed + k``: it is the same
    in every batch, on every device, in one run or in several.

    Args:
        model: A diffusion model in evaluation mode: unconditional, class- or text-conditional.
        settings: How to draw, checked.
        observer: Called with progress.
        classifier: Guides towards ``settings.class_label`` by its gradient.
        cancel: Ends the run early where another thread asks for that.

    Raises:
        UserError: The model and the settings do not match.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: SampleSettings,
        observer: Observer,
        classifier: NoisyLatentImageClassifier | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self.cancel = cancel or Cancel()
        self.model, self.settings, self.observer = model, settings, observer
        self.classifier = classifier
        self.conditions = conditions_for(model, settings, classifier=classifier is not None)

    @cached_property
    def sampler(self) -> Sampler:
        """The sampler with its schedule made."""
        settings = self.settings
        if settings.vanilla_sample:
            sampler = AncestralSampler(self.model)
            sampler.make_schedule(self.model.num_timesteps, verbose=False)
        else:
            sampler = make_sampler(settings.sampler, self.model, spacing=settings.spacing)
            sampler.make_schedule(settings.steps, ddim_eta=settings.ddim_eta, verbose=False)
        return sampler

    @property
    def shape(self) -> tuple[int, int, int]:
        """What is diffused: (C, h, w).

        Raises:
            UserError: A size that the UNet cannot halve at each of its levels.
        """
        size = self.model.image_size
        height, width = (size, size) if isinstance(size, int) else size
        halvings = len(self.model.model.diffusion_model.channel_mult) - 1
        multiple = 2**halvings
        if height % multiple or width % multiple:
            raise UserError(
                f"model.params.image_size is {size}; this UNet halves its sides {halvings} times:"
                f" expected multiples of {multiple}; correct it"
            )
        return self.model.channels, height, width

    def pictures(self, first: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Yield pictures ``first`` ... ``n_samples - 1``: the number, and uint8 (H, W, 3).

        Raises:
            UserError: Memory ran out, or values came out as NaN.
            Cancelled: The run was cancelled.
        """
        self.cancel.check()
        wanted = range(first, self.settings.n_samples)
        total = self.sampler.steps * len(wanted)
        self.observer(Progress(0, total, 0, len(wanted)))
        with (
            self.model.ema_scope(),
            self._integers(),
            weights_in(self.model, self._half),
            interruptible(self.model, self.cancel),
        ):
            for begin in range(0, len(wanted), self.settings.batch_size):
                numbers = wanted[begin : begin + self.settings.batch_size]
                what = f"{len(numbers)} pictures at a time"
                with memory_for(what, self.model.device, self._smaller(len(numbers))):
                    decoded = self._draw(numbers, begin, len(wanted))
                check_finite(decoded, advice=lambda: way_out(self.model, self._half))
                yield from zip(numbers, to_uint8(decoded), strict=True)

    def _smaller(self, rows: int) -> str:
        if rows > 1:
            return "give a smaller --batch_size"
        cpu = self.model.device.type == "cpu"
        return "free some of it" if cpu else "free some of it, or use --device cpu"

    @torch.no_grad()
    def _draw(self, numbers: range, done: int, total: int) -> Tensor:
        """Return decoded pictures (B, 3, H, W)."""
        noise = PerImageNoise([self.settings.seed + number for number in numbers])
        x = noise.randn((len(numbers), *self.shape), self.model.device)
        steps, rows = self.sampler.steps, len(numbers)
        with self._precision():
            cond, uncond = self.conditions.rows(numbers)
            options = {"guider": self._guider(numbers, uncond), "noise": noise}
            states = self.sampler.walk(x, cond, unconditional_conditioning=uncond, **options)
            with closing(states):
                for state in states:
                    x = state.x
                    self.cancel.check()
                    finished = done + rows if state.i == steps - 1 else done
                    now = done * steps + (state.i + 1) * rows
                    self.observer(Progress(now, total * steps, finished, total))
            decode = getattr(self.model, "decode_first_stage", None)
            return x if decode is None else decode(x)

    def _guider(self, numbers: range, uncond: Conditioning) -> Guider:
        own = make_guider(self.settings.scale, uncond)
        if self.classifier is None:
            return own
        labels = torch.tensor([self.settings.label(number) for number in numbers])
        labels = labels.to(self.model.device)
        return self.classifier.guidance(labels, self.settings.classifier_scale, own)

    def _precision(self):
        """Return the context that the model computes in."""
        if self._half is None:
            return nullcontext()
        return torch.autocast(self.model.device.type, dtype=self._half)

    def _integers(self) -> AbstractContextManager:
        if self.settings.precision != "int8":
            return nullcontext()
        return in_integers(self.model, self.model.device)

    @property
    def _half(self) -> torch.dtype | None:
        return half_of(self.model.device, self.settings.precision)


TEXT_KEYS = ("caption", "txt")
Rows = tuple[Conditioning, Conditioning]


class Nothing:
    """No condition: an unconditional model."""

    def rows(self, numbers: Sequence[int]) -> Rows:  # noqa: ARG002
        """Return the conditioning of pictures given by number, and its empty counterpart."""
        return None, None


class Classes:
    """Classes in turn; the model's last class is the empty one.

    Args:
        model: A class-conditional diffusion model.
        settings: The run's.
        count: Number of classes in the model.
    """

    def __init__(self, model: nn.Module, settings: SampleSettings, count: int) -> None:
        self.model, self.settings, self.count = model, settings, count

    def rows(self, numbers: Sequence[int]) -> Rows:
        """Return the conditioning of pictures given by number, and its empty counterpart."""
        cond = self.encode([self.settings.label(number) for number in numbers])
        guided = self.settings.scale != 1.0
        return cond, self.encode([self.count - 1] * len(numbers)) if guided else None

    def encode(self, labels: Sequence[int]) -> Conditioning:
        """Encode class numbers as the model does in training."""
        tensor = torch.tensor(labels, device=self.model.device)
        key = self.model.cond_stage_key
        return self.model.get_learned_conditioning({key: tensor} if key in CLASS_KEYS else tensor)


class Text:
    """One text for all pictures; the empty text is its counterpart.

    Args:
        model: A text-conditional diffusion model.
        settings: The run's.
    """

    def __init__(self, model: nn.Module, settings: SampleSettings) -> None:
        self.model, self.settings = model, settings

    def rows(self, numbers: Sequence[int]) -> Rows:
        """Return the conditioning of pictures given by number, and its empty counterpart."""
        encode, count = self.model.get_learned_conditioning, len(numbers)
        guided = self.settings.scale != 1.0
        return encode([self.settings.prompt] * count), encode([""] * count) if guided else None


def conditions_for(
    model: nn.Module, settings: SampleSettings, *, classifier: bool = False
) -> Nothing | Classes | Text:
    """Return what a model's samples are conditioned on.

    Args:
        model: A diffusion model.
        settings: The run's.
        classifier: Whether a classifier guides towards the classes: the model then needs none.

    Raises:
        UserError: Something that the model needs is missing, or it cannot use what is given.
    """
    count = class_count(model)
    if count is not None:
        _check_inputs(model)
        _check_classes(settings, count)
        return Classes(model, settings, count)
    if settings.class_label and not classifier:
        raise UserError("--class_label was given; the model has no classes; leave it out")
    if _key(model) is None:
        if settings.prompt is not None or settings.scale != 1.0:
            raise UserError(
                "--prompt or --scale was given; the model is unconditional; leave them out"
            )
        _check_inputs(model)
        return Nothing()
    if model.cond_stage_key not in TEXT_KEYS and not hasattr(model.cond_stage_model, "tokenizer"):
        raise UserError(
            f"the model is conditioned on {model.cond_stage_key!r}; expected an unconditional, a "
            "class-conditional or a text model; for models conditioned on pictures use "
            "scripts/inpaint.py or scripts/upscale.py"
        )
    _check_inputs(model)
    if settings.prompt is None:
        raise UserError('the model draws from text; expected a prompt; add --prompt "..."')
    return Text(model, settings)


def class_count(model: nn.Module) -> int | None:
    """Return how many classes a model is conditioned on, the empty one included, or None."""
    key = _key(model)
    if key is None:
        return None
    if key.endswith("adm") and model.model.diffusion_model.num_classes is not None:
        return model.model.diffusion_model.num_classes
    if model.cond_stage_key not in CLASS_KEYS:
        return None
    embedder: Any = model.cond_stage_model
    return getattr(embedder, "n_classes", None) or embedder.embedding.num_embeddings


def _key(model: nn.Module) -> str | None:
    """Return where conditioning enters a model; None if it takes none."""
    conditional = getattr(model, "cond_stage_key", None) is not None
    return model.model.conditioning_key if conditional else None


def _check_inputs(model: nn.Module) -> None:
    inputs = getattr(model.model.diffusion_model, "in_channels", model.channels)
    if inputs != model.channels:
        raise UserError(
            f"the model's UNet takes {inputs} channels, and {model.channels} are diffused; "
            "expected equal numbers, as it is given nothing else; for models conditioned on "
            "pictures use scripts/inpaint.py or scripts/upscale.py"
        )


def _check_classes(settings: SampleSettings, count: int) -> None:
    if settings.prompt is not None:
        raise UserError("--prompt was given; the model draws classes; give --class_label instead")
    if not settings.class_label:
        raise UserError(
            f"the model draws classes 0 to {count - 1}; expected some of them; add --class_label "
            f"NUMBER ..., or --class_label 0-{count - 1} for all in turn"
        )
    worst = max(settings.class_label)
    if worst >= count:
        raise UserError(
            f"--class_label {worst} was given; the model has classes 0 to {count - 1}; "
            "give one of them"
        )
