"""How a kind of model draws: its conditioning, its initial latents, its walk.

    encode()                once a run: what all its batches share
    condition(prompts)      each batch: its conditioning, as keywords of ``Sampler.walk``
    begin(sampler, ...)     each batch: its initial latents, and the sampler's steps from them

The kind of model (``ldm.settings.model_kind``) names the class that draws a run.
Shape legend: B pictures, C h w latent, H W pixels, L D tokens and their width.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ldm.images.io import to_tensor
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.models.diffusion.sampler import Sampler
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.pipelines.initial_latents import EncodedPicture, StartNoise
from ldm.pipelines.request import Request
from ldm.rng import GlobalNoise, NoiseSource
from ldm.settings.samplers import SAMPLERS
from ldm.types import Conditioning, EpsModel, SamplerState
from ldm.util import get_obj_from_str

if TYPE_CHECKING:
    from ldm.modules.attention_control.controller import Controller
    from ldm.pipelines.batches import Batch
    from ldm.pipelines.cancelling import Cancel
    from ldm.pipelines.prompting import Prompter
    from ldm.settings.generation import GenerationSettings
    from ldm.settings.prompt_weights import Mixture


def make_walk(request: Request, model: LatentSpaceDiffusion, device: torch.device) -> TextWalk:
    """Return the walk that draws a request with its model on ``device``."""
    address = request.choice.kind.walks[request.settings.task]
    if getattr(request.settings, "hires", None) is not None:
        address = "ldm.pipelines.hires.HiresWalk"
    return get_obj_from_str(address)(request, model, device)


def sampler_for(settings: GenerationSettings, model: EpsModel) -> Sampler:
    """Return the sampler that settings ask for, with its schedule made."""
    if settings.zero_terminal_snr:
        from ldm.pipelines.shortcutting import model_for

        model = model_for(settings, model)
    sampler = make_sampler(settings.sampler, model, spacing=settings.spacing)
    eta = settings.ddim_eta if SAMPLERS[settings.sampler].eta == "used" else 0.0
    sampler.make_schedule(settings.ddim_steps, ddim_eta=eta, verbose=False)
    return sampler


def steps_of(request: Request, model: LatentSpaceDiffusion) -> int:
    """Return how many steps each batch of a request takes."""
    walk = make_walk(request, model, model.device)
    return walk.steps(sampler_for(request.settings, model))


class Silenced:
    """Stands in for a model where only a sampler's random draws are wanted.

    Args:
        model: What a sampler asks of it is its own, but for what it predicts.
    """

    silent = True

    def __init__(self, model: EpsModel) -> None:
        self.num_timesteps = model.num_timesteps
        self.alphas_cumprod = model.alphas_cumprod
        self.parameterization = model.parameterization
        self.device = model.device
        self.q_sample = model.q_sample  # noises what a mask keeps

    def apply_model(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:  # noqa: ARG002
        """Return zeros (B, C, h, w) like ``x``, without running a model."""
        return torch.zeros_like(x)


class TextWalk:
    """Text-to-image: starts from noise, conditioned on the prompts.

    Args:
        request: What is wanted.
        model: A latent diffusion model with a text encoder.
        device: Where the latents are.

    Attributes:
        remember: Recalls encodings that are known under a key, or makes them; None always makes.
        cancel: Ends early what takes long and is not the model's; None never does.
    """

    cancel: Cancel | None = None

    def __init__(self, request: Request, model: LatentSpaceDiffusion, device: torch.device) -> None:
        self.request, self.settings = request, request.settings
        self.model, self.device = model, device
        self.start_noise = StartNoise(request.settings, request.size, device)
        self.remember: Callable[[Hashable, Callable[[], Any]], Any] | None = None
        self._prompter: Prompter | None = None

    def encode(self) -> None:
        """Compute and draw what the whole run shares. Called once, just after seeding."""
        self.start_noise.fix()

    def is_finite(self) -> bool:
        """Return whether every value that ``encode`` computed is finite."""
        return True

    def condition(self, prompts: Sequence[str], negatives: Sequence[str] = ()) -> dict[str, Any]:
        """Encode the prompts, and what guidance steers away from.

        Args:
            prompts: One for each row of the batch.
            negatives: The same of negative prompts; none is the settings' for all.

        Returns:
            Keywords of ``Sampler.walk``, with encodings (B, L, D).
        """
        settings, encode = self.settings, self.model.get_learned_conditioning
        if self.remember is not None:
            encode = self._remembered
        if settings.prompt_syntax != "compvis" or settings.clip_skip != 1:
            return self._read(prompts, negatives)
        wanted = {"cond": list(prompts)}
        if settings.scale != 1.0:
            negative = negatives or len(prompts) * [settings.negative_prompt]
            wanted = {"unconditional_conditioning": negative, **wanted}
        encoded: dict[str, Any] = {}
        for key, texts in wanted.items():
            mixtures = [settings.mixture(text) for text in texts]
            if all(len(mixture) == 1 for mixture in mixtures):
                encoded[key] = encode([mixture[0][0] for mixture in mixtures])
            else:
                encoded[key] = blend(mixtures, encode)
        return {"unconditional_guidance_scale": settings.scale, **encoded}

    def _read(self, prompts: Sequence[str], negatives: Sequence[str]) -> dict[str, Any]:
        """Encode prompts that have a grammar, each once a run."""
        if self._prompter is None:
            from ldm.pipelines.prompting import Prompter

            self._prompter = Prompter(self.settings, self.model, self.remember)
        return self._prompter.condition(prompts, negatives)

    def _remembered(self, texts: list[str]) -> Tensor:
        """Encode plain texts (texts, L, D), or recall their encodings."""
        return self.remember(tuple(texts), partial(self.model.get_learned_conditioning, texts))

    def forget_prompts(self) -> None:
        """Encode prompts anew from now on: something else acts on the text encoder."""
        self._prompter = None

    def steps(self, sampler: Sampler) -> int:
        """Return how many steps the sampler will take."""
        return sampler.steps

    def extra_steps(self, sampler: Sampler) -> int:  # noqa: ARG002
        """Return how many steps ``prepare`` takes."""
        return 0

    def prepare(self, sampler: Sampler, tick: Callable[[int], None]) -> None:
        """Compute what takes steps of its own, once a run.

        Args:
            sampler: With its schedule made.
            tick: Called with the number of steps taken.
        """

    def findings(self, decoded: Tensor) -> Iterator[str]:  # noqa: ARG002
        """Say what is to be said of decoded pictures (B, 3, H, W)."""
        yield from ()

    def controller(self, rows: int) -> Controller | None:  # noqa: ARG002
        """Return what has charge of the model's attention while a batch of ``rows`` is drawn."""
        return None

    def decode(self, x: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to pictures (B, 3, H, W) in [-1, 1]."""
        return self.model.decode_first_stage(x)

    def drawn(self, batch: Batch) -> Batch:
        """Return what the decoded rows of a batch are."""
        return batch

    def begin(
        self, sampler: Sampler, noise: NoiseSource, rows: int, **conditioning: Any
    ) -> tuple[Tensor, Iterator[SamplerState]]:
        """Start the sampler on a batch.

        Args:
            sampler: With its schedule made.
            noise: Where the batch's random numbers come from.
            rows: B, its number of pictures.
            **conditioning: What ``condition`` returned, of B rows.

        Returns:
            The initial latents (B, C, h, w), and the steps.
        """
        x = self.start_noise.draw(noise, rows)
        return x, sampler.walk(x, noise=noise, **conditioning)


class ImageWalk(TextWalk):
    """Image-to-image: starts part of the way through the steps, from the noised init image.

    Args:
        request: What is wanted, with its init image.
        model: A latent diffusion model with a text encoder.
        device: Where the latents are.
    """

    def __init__(self, request: Request, model: LatentSpaceDiffusion, device: torch.device) -> None:
        super().__init__(request, model, device)
        self._picture = EncodedPicture(model, to_tensor(request.image.pixels))

    @property
    def encoded(self) -> tuple[EncodedPicture, ...]:
        """What is encoded, in the order in which random numbers are drawn for it."""
        return (self._picture,)

    @torch.no_grad()
    def encode(self) -> None:
        """Encode the init image and draw what the run shares."""
        for each in self.encoded:
            each.encode()
            if not self.start_noise.per_image:
                # One latent per row of a batch, the same in every batch.
                each.share(GlobalNoise(), self.settings.n_samples)
        # Picture 0 draws its posteriors before its start noise.
        self.start_noise.fix(lambda first: [each.draw(first, 1) for each in self.encoded])

    def is_finite(self) -> bool:
        """Return whether every encoded value is finite."""
        return all(each.is_finite() for each in self.encoded)

    def steps(self, sampler: Sampler) -> int:
        """Return how many of the sampler's steps ``strength`` leaves."""
        # int() and the float product are the reference's: strength 0.29 of 100 steps is 28.
        return min(int(self.settings.strength * self.settings.ddim_steps), sampler.steps)

    @torch.no_grad()
    def begin(
        self, sampler: Sampler, noise: NoiseSource, rows: int, **conditioning: Any
    ) -> tuple[Tensor, Iterator[SamplerState]]:
        """Add noise to the init image as ``strength`` says, and start the sampler from there."""
        latents = self.latents(noise, rows)
        x = self.noised(sampler, latents, self.start_noise.draw(noise, rows))
        return x, sampler.walk(x, t_start=self.steps(sampler), noise=noise, **conditioning)

    def latents(self, noise: NoiseSource, rows: int) -> Tensor:
        """Return what noise is added to, (B, C, h, w): the picture."""
        return self._picture.latents(noise, rows)

    def noised(self, sampler: Sampler, latents: Tensor, start_noise: Tensor) -> Tensor:
        """Return ``latents`` (B, C, h, w) with as much noise as ``strength`` says."""
        steps = self.steps(sampler)
        if steps == 0:
            # The table's entry 0 has a little noise, which no step would remove.
            return latents
        return sampler.stochastic_encode(latents, steps, noise=start_noise)


def blend(mixtures: Sequence[Mixture], encode: Callable[[list[str]], Tensor]) -> Tensor:
    """Encode the prompts of a batch that contains mixtures of texts.

    Args:
        mixtures: One for each row: texts with their shares.
        encode: Turns texts into their encodings (texts, L, D), each on its own.

    Returns:
        (B, L, D), the sums of the encodings weighted by their shares.
    """
    sums: dict[tuple, Tensor] = {}
    for mixture in map(tuple, mixtures):
        if mixture not in sums:
            encoded = encode([text for text, _ in mixture])  # (texts, L, D)
            shares = encoded.new_tensor([share for _, share in mixture])
            sums[mixture] = (shares[:, None, None] * encoded).sum(0)
    return torch.stack([sums[mixture] for mixture in map(tuple, mixtures)])
