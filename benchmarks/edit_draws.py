"""Draw demo scenes and their edits together: many pairs in one batch, each under its own control.

A batch is laid out in columns (``ldm.pipelines.columns``): the sources first, then for each way of
editing the pictures that it makes of them. Every picture of a scene starts from the same noise.

Shapes: P columns, n scenes of a batch, B = P n pictures; H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.demo_measures import Sampling
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.attention_control import AttentionStore, Chain, LocalBlend, Reweight, Row
from ldm.modules.attention_control.auto import Auto
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.moments import Moment
from ldm.modules.attention_control.seam import control_attention
from ldm.modules.attention_control.sites import Site
from ldm.modules.attention_control.windows import Window, is_within
from ldm.modules.attention_control.words import TokenizedPrompt, read_prompt
from ldm.pipelines.columns import ColumnSampler
from ldm.rng import PerImageNoise

Make = Callable[[TokenizedPrompt, TokenizedPrompt], Controller]
"""From a source and a target to what edits the one into the other."""


class Branches(Controller):
    """Gives each of several controllers pictures of its own, which it counts from 0.

    Args:
        branches: Controllers and the pictures of the batch that each has charge of. A picture may
            be in several; of the changes to it the last one holds.
    """

    def __init__(self, branches: Sequence[tuple[Controller, Sequence[int]]]) -> None:
        self.branches = [
            (controller, {picture: place for place, picture in enumerate(pictures)})
            for controller, pictures in branches
        ]

    def begin(self, sites: Sequence[Site]) -> None:
        for controller, _ in self.branches:
            controller.begin(sites)

    def wants(self, site: Site, moment: Moment) -> bool:
        return any(controller.wants(site, moment) for controller, _ in self.branches)

    def __call__(
        self, probs: Tensor, site: Site, moment: Moment, rows: Sequence[Row]
    ) -> Tensor | None:
        changed = None
        for controller, places in self.branches:
            index = [number for number, row in enumerate(rows) if row.picture in places]
            if not index or not controller.wants(site, moment):
                continue
            own = [Row(rows[number].part, places[rows[number].picture]) for number in index]
            used = controller(probs[index], site, moment, own)
            if used is not None:
                changed = probs.clone() if changed is None else changed
                changed[index] = used
        return changed

    def after_step(self, x: Tensor, moment: Moment) -> Tensor:
        after = x.clone()
        for controller, places in self.branches:
            index = list(places)
            after[index] = controller.after_step(x[index], moment)
        return after


class WindowedStore(AttentionStore):
    """An ``AttentionStore`` that looks during a part of the steps.

    Args:
        window: Shares of the steps, from and to.
    """

    def __init__(self, window: Window) -> None:
        super().__init__(("cross",), keep_heads=False, least_rate=1, dtype=torch.float32)
        self.window = window

    def wants(self, site: Site, moment: Moment) -> bool:
        inside = is_within(self.window, moment.number, moment.total, "window")
        return inside and super().wants(site, moment)


@dataclass(frozen=True)
class Windows:
    """During which share of the steps a swap has the source's maps: across words, and self."""

    cross: float
    self: float


@dataclass(frozen=True)
class Column:
    """One way of making a picture of each scene.

    Attributes:
        prompts: One for each scene.
        makes: For each scene what edits its own picture into this one; none draws the prompts by
            themselves.
    """

    prompts: Sequence[str]
    makes: Sequence[Make] = ()


@dataclass
class Drawn:
    """What was drawn.

    Attributes:
        pictures: By name of the column, (n, 3, H, W) in [-1, 1]; ``source`` is the scenes' own.
        stores: For each batch of scenes, in order, the sources' maps by window.
    """

    pictures: dict[str, Tensor] = field(default_factory=dict)
    stores: list[dict[Window, WindowedStore]] = field(default_factory=list)


@torch.inference_mode()
def draw_columns(
    model: nn.Module,
    columns: dict[str, Column],
    scale: float,
    sampling: Sampling,
    looks: Sequence[Window] = (),
) -> Drawn:
    """Draw scenes and what is made of them.

    Args:
        model: A latent diffusion model with its weights, in evaluation mode.
        columns: By name, the first of them ``source``.
        scale: Of classifier-free guidance, not 1.
        sampling: How; scene i starts from the noise of seed + i.
        looks: Windows of steps in which the sources' attention is looked at.
    """
    drawn, parts = Drawn(), {name: [] for name in columns}
    count = len(columns["source"].prompts)
    for first in range(0, count, sampling.batch_size):
        scenes = range(first, min(first + sampling.batch_size, count))
        stores = {window: WindowedStore(window) for window in looks}
        own = [(store, range(len(scenes))) for store in stores.values()]
        control = Branches([*own, *_edits(model, columns, scenes)])
        batch = _walk(model, columns, scenes, scale, sampling, control)
        for name, latents in zip(columns, batch.chunk(len(columns)), strict=True):
            parts[name].append(model.decode_first_stage(latents).clamp(-1, 1).float().cpu())
        drawn.stores.append(stores)
    drawn.pictures = {name: torch.cat(pictures) for name, pictures in parts.items()}
    return drawn


def _edits(
    model: nn.Module, columns: dict[str, Column], scenes: Sequence[int]
) -> Iterator[tuple[Controller, tuple[int, int]]]:
    """Yield each scene's edits with the pictures, source and target, that each is about."""
    tokenizer, n = model.cond_stage_model.tokenizer, len(scenes)
    for number, column in enumerate(columns.values()):
        for place, scene in enumerate(scenes if column.makes else ()):
            texts = columns["source"].prompts[scene], column.prompts[scene]
            source, target = (read_prompt(tokenizer, text) for text in texts)
            yield column.makes[scene](source, target), (place, number * n + place)


def _walk(
    model: nn.Module,
    columns: dict[str, Column],
    scenes: Sequence[int],
    scale: float,
    sampling: Sampling,
    controller: Controller,
) -> Tensor:
    """Take all steps of a batch under control; return its latents (B, C, h, w)."""
    n = len(scenes)
    noise = PerImageNoise([sampling.seed + scene for scene in scenes])
    sampler = make_sampler(sampling.sampler, model, spacing=sampling.spacing)
    sampler.make_schedule(sampling.steps, verbose=False)
    encode = model.get_learned_conditioning
    cond = torch.cat([encode([each.prompts[k] for k in scenes]) for each in columns.values()])
    x = noise.randn((n, model.channels, model.image_size, model.image_size), model.device)
    states = ColumnSampler(sampler, len(columns), n).walk(
        x,
        noise=noise,
        cond=cond,
        unconditional_guidance_scale=scale,
        unconditional_conditioning=encode([""] * (n * len(columns))),
    )
    with control_attention(model, controller):
        for state in states:
            x = state.x
    return x


def swap_by(windows: Windows) -> Make:
    """Return what edits by the published word swap."""

    def make(source: TokenizedPrompt, target: TokenizedPrompt) -> Controller:
        return Auto(source, [target], cross_steps=windows.cross, self_steps=windows.self)

    return make


def blend_by(windows: Windows, nouns: tuple[str, str]) -> Make:
    """Return what swaps words and keeps the source's latents where neither noun looks."""
    swap = swap_by(windows)

    def make(source: TokenizedPrompt, target: TokenizedPrompt) -> Controller:
        blend = LocalBlend([source, target], [[noun] for noun in nouns])
        return Chain(swap(source, target), blend)

    return make


def weigh_by(windows: Windows, word: str, weight: float) -> Make:
    """Return what gives a word of the prompt another weight."""

    def make(source: TokenizedPrompt, target: TokenizedPrompt) -> Controller:
        return Reweight(
            source,
            [target],
            {word: weight},
            cross_steps=windows.cross,
            self_steps=windows.self,
        )

    return make


def weigh_from(windows: Windows, word: str, weight: float) -> Make:
    """Return what gives a word and every token after it, padding included, another weight.

    A causal text encoder may put what a word means into any token that follows.
    """
    weigh = weigh_by(windows, word, weight)

    def make(source: TokenizedPrompt, target: TokenizedPrompt) -> Controller:
        edit = weigh(source, target)
        edit.factors[0][target.positions(word)[0] :] = weight
        return edit

    return make
