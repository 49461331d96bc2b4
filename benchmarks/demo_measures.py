"""Measure a model of the demo scenes: draw held-out prompts, judge the pictures, take PSNR.

Shapes: B pictures, H = W the model's own side in pixels, C channels and h = w side of the latent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.scene_oracle import SceneOracle, Sight, shows_layout, shows_objects
from ldm.data.demo.scene_vocabulary import COLOURS
from ldm.data.demo.scenes import Scene, SceneDataset, render
from ldm.models.diffusion.sampler import Sampler
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.rng import PerImageNoise

# Far more items than are ever read: the list of prompts is the first fitting ones.
_PLENTY = 1_000_000


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn; prompt i of a list starts from the noise of seed + i."""

    sampler: str
    steps: int
    batch_size: int
    seed: int
    spacing: str = "linspace"


@dataclass(frozen=True)
class Score:
    """Shares in [0, 1]; NaN where no prompt of the kind was judged.

    Attributes:
        background: the nearest named colour of the border is the asked one.
        one: the best of all glyphs is the asked one (one-object prompts).
        both: the best two glyphs are the asked ones (two-object prompts).
        related: so they are, and they stand to each other as asked.
        explained: mean part of the picture that the found glyphs, as the font draws them, account
            for: how faithfully they are drawn.
    """

    background: float
    one: float
    both: float
    related: float
    explained: float


def names_background(scene: Scene) -> bool:
    """Tell whether the caption of a scene says which background it wants."""
    colour = COLOURS[scene.background]
    word = {"en": colour.english, "ja": colour.japanese}[scene.language]
    return word in scene.caption


def held_out_prompts(count: int, language: str, seed: int) -> list[Scene]:
    """List held-out scenes, each combination once, half with one and half with two objects.

    The list is a function of the arguments alone; one-object scenes come first.
    """
    data = SceneDataset(length=_PLENTY, seed=seed, split="heldout", languages=(language,))
    wanted = {1: count - count // 2, 2: count // 2}
    chosen: dict[int, list[Scene]] = {1: [], 2: []}
    seen = set()
    for scene in map(data.scene, range(_PLENTY)):
        group = chosen[len(scene.objects)]
        combination = (scene.objects, scene.layout, scene.size, scene.background)
        if len(group) < wanted[len(scene.objects)] and names_background(scene):
            if combination not in seen:
                group.append(scene)
            seen.add(combination)
        if all(len(chosen[n]) == wanted[n] for n in wanted):
            break
    return chosen[1] + chosen[2]


def ground_truth(scenes: Sequence[Scene], size: int) -> Tensor:
    """Draw what the prompts ask for, with the font: (B, 3, size, size) in [-1, 1]."""
    return torch.stack([torch.from_numpy(render(scene, size)) for scene in scenes]).movedim(-1, 1)


def side_of(model: nn.Module) -> int:
    """Return the side in pixels of the pictures that a latent diffusion model was made for."""
    return model.image_size * model.first_stage_model.downsampling_factor


@torch.inference_mode()
def draw(model: nn.Module, prompts: Sequence[str], scale: float, sampling: Sampling) -> Tensor:
    """Draw prompts with a latent diffusion model: (B, 3, H, W) in [-1, 1], on the CPU.

    Args:
        model: with its weights, in evaluation mode.
        prompts: B texts.
        scale: of classifier-free guidance; 1 goes without it.
        sampling: how.
    """
    pictures = []
    for batch in tqdm(_batches(len(prompts), sampling.batch_size), desc=f"scale {scale:g}"):
        noise = PerImageNoise([sampling.seed + k for k in batch])
        sampler = make_sampler(sampling.sampler, model, spacing=sampling.spacing, noise=noise)
        sampler.make_schedule(sampling.steps, verbose=False)
        pictures.append(walked(sampler, encoded(model, [prompts[k] for k in batch], scale), scale))
    return torch.cat(pictures)


def encoded(model: nn.Module, prompts: Sequence[str], scale: float) -> tuple[Tensor, Tensor | None]:
    """Return the conditioning of prompts and, unless ``scale`` is 1, that of empty ones."""
    empty = None if scale == 1 else model.get_learned_conditioning([""] * len(prompts))
    return model.get_learned_conditioning(list(prompts)), empty


def walked(
    sampler: Sampler, conds: tuple[Tensor, Tensor | None], scale: float, **options: Any
) -> Tensor:
    """Draw one batch with a sampler that has its schedule and noise: (B, 3, H, W) in [-1, 1].

    Args:
        sampler: Its noise gives the start too.
        conds: Of ``encoded``.
        scale: Of guidance.
        **options: Of ``Sampler.decode``.
    """
    model, (cond, empty) = sampler.model, conds
    shape = (len(cond), model.channels, model.image_size, model.image_size)
    samples = sampler.decode(
        sampler.noise.randn(shape, model.device),
        cond,
        model.num_timesteps,  # all there are
        unconditional_guidance_scale=scale,
        unconditional_conditioning=empty,
        **options,
    )
    return model.decode_first_stage(samples).clamp(-1, 1).float().cpu()


def _batches(count: int, batch_size: int) -> list[range]:
    return [range(k, min(k + batch_size, count)) for k in range(0, count, batch_size)]


def look_at(oracle: SceneOracle, pictures: Tensor, scenes: Sequence[Scene]) -> list[Sight]:
    """See as many objects in each picture (B, 3, H, W) as its scene has."""
    return [
        oracle.look(picture[None], len(scene.objects))[0]
        for picture, scene in zip(pictures, scenes, strict=True)
    ]


def judge(sights: Sequence[Sight], scenes: Sequence[Scene]) -> Score:
    """Compare what is seen with what was asked."""
    pairs = list(zip(sights, scenes, strict=True))
    lone = [(sight, scene) for sight, scene in pairs if scene.layout == "lone"]
    two = [(sight, scene) for sight, scene in pairs if scene.layout != "lone"]
    return Score(
        background=_mean(sight.background == scene.background for sight, scene in pairs),
        one=_mean(shows_objects(sight, scene.objects) for sight, scene in lone),
        both=_mean(shows_objects(sight, scene.objects) for sight, scene in two),
        related=_mean(shows_layout(sight, scene.objects, scene.layout) for sight, scene in two),
        explained=_mean(sight.explained for sight in sights),
    )


def mismatched(sights: Sequence[Sight], scenes: Sequence[Scene]) -> tuple[list[Sight], list[Scene]]:
    """Pair each picture with the next prompt of its kind that shares no object and no colour.

    Pictures for which the list has no such prompt are left out.
    """
    pairs = []
    for k, (sight, scene) in enumerate(zip(sights, scenes, strict=True)):
        others = [*scenes[k + 1 :], *scenes[:k]]
        wrong = next((other for other in others if _shares_nothing(scene, other)), None)
        if wrong is not None:
            pairs.append((sight, wrong))
    return [sight for sight, _ in pairs], [wrong for _, wrong in pairs]


def _shares_nothing(scene: Scene, other: Scene) -> bool:
    return (
        len(scene.objects) == len(other.objects)
        and not set(scene.objects) & set(other.objects)
        and scene.background != other.background
    )


def _mean(values: Iterator[float]) -> float:
    values = list(values)
    return sum(values) / len(values) if values else math.nan


def psnr_of(pictures: Tensor, wanted: Tensor) -> list[float]:
    """Return the PSNR of each picture in dB, at most 100; both are (B, 3, H, W) in [-1, 1]."""
    error = ((wanted - pictures) / 2).square().mean(dim=(1, 2, 3))
    return (-10 * torch.log10(error.clamp(min=1e-10))).tolist()


@torch.inference_mode()
def autoencoder_psnr(
    first_stage: nn.Module, size: int, *, count: int, batch_size: int, seed: int
) -> tuple[list[float], Tensor]:
    """Encode (to the posterior's mode) and decode held-out scenes.

    Args:
        first_stage: has ``encode`` and ``decode``.
        size: side of the pictures in pixels.
        count: how many scenes.
        batch_size: at a time.
        seed: which scenes.

    Returns:
        PSNR of each picture in dB, for values 0..1 clamped to that range; and the first pictures
        above their reconstructions, (2n, 3, size, size) in [-1, 1].
    """
    data = SceneDataset(size=size, length=count, seed=seed, split="heldout")
    device = next(first_stage.parameters()).device
    psnr, shown = [], None
    for batch in tqdm(_batches(count, batch_size), desc="autoencoder"):
        x = torch.stack([data[k]["jpg"] for k in batch]).movedim(-1, 1).to(device)
        decoded = first_stage.decode(first_stage.encode(x).mode()).clamp(-1, 1)
        psnr += psnr_of(decoded, x)
        if shown is None:
            shown = torch.cat((x[:10], decoded[:10])).cpu()
    return psnr, shown
