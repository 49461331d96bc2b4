"""Prompt-to-prompt, arXiv:2208.01626, spelled out once more: what the controllers are held to.

Nothing of ``ldm.modules.attention_control`` is used, no sampler and no processor. Every layer of
attention gets another ``forward`` with an explicit softmax, in which the conditional half of the
batch is edited; DDIM's steps and the blend of latents follow in one loop.

Shapes: P prompts (the source first), n pictures of each, heads, N queries, L tokens, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.modules.attention import CrossAttention


@dataclass
class Blend:
    """Tokens whose places may change, for each prompt, and those whose places may not."""

    tokens: Sequence[Sequence[int]]
    subtract: Sequence[Sequence[int]] = ()
    threshold: float = 0.3
    start: float = 0.2


@dataclass
class Published:
    """One edit.

    Attributes:
        mappers: For each target M (L, L); a column of a new token is 0.
        new: For each target 1 where a token is new, (L,).
        alphas: Whether words are edited, (T + 1, targets, L).
        factors: What the edited maps of each target are multiplied with, (L,).
        self_steps: First step of the self-attention's window, and the first behind it.
        blend: After each step.
    """

    mappers: Sequence[Tensor]
    new: Sequence[Tensor]
    alphas: Tensor
    factors: Sequence[Tensor]
    self_steps: tuple[int, int]
    blend: Blend | None = None
    masks: list[Tensor] = field(default_factory=list)
    _sums: dict[nn.Module, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def draw(
        self, unet: nn.Module, x: Tensor, cond: Tensor, uncond: Tensor, *, steps: int, scale: float
    ) -> Tensor:
        """Walk from x (n, C, h, w) for prompts (P, L, D), uncond (1, L, D): (P, n, C, h, w)."""
        self.prompts, self.pictures = len(cond), len(x)
        self.quarter = x.shape[-2] * x.shape[-1] // 16
        x = torch.cat([x] * self.prompts)
        context = torch.cat([uncond.repeat(len(x), 1, 1), cond.repeat_interleave(self.pictures, 0)])
        replaced = [m for m in unet.modules() if isinstance(m, CrossAttention)]
        in_middle = set(unet.middle_block.modules())
        for layer in replaced:
            layer.forward = self._forward(layer, layer in in_middle)
        try:
            for self.step, (time, a, a_prev) in enumerate(_ddim(steps)):
                out = unet(torch.cat([x, x]), torch.full((2 * len(x),), time), context=context)
                e_u, e_c = out.split(len(x))
                e = e_u + scale * (e_c - e_u)
                x0 = (x - (1 - a) ** 0.5 * e) / a**0.5
                x = a_prev**0.5 * x0 + (1 - a_prev) ** 0.5 * e
                x = self._blended(x, steps)
        finally:
            for layer in replaced:
                del layer.forward
        return x.unflatten(0, (self.prompts, self.pictures))

    def _forward(self, layer: CrossAttention, in_middle: bool):
        def forward(x: Tensor, context: Tensor | None = None, mask: None = None) -> Tensor:
            crossed = context is not None
            context = x if context is None else context
            q, k, v = (
                projected.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
                for projected in (layer.to_q(x), layer.to_k(context), layer.to_v(context))
            )
            probs = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
            half = len(probs) // 2
            maps = probs[half:].unflatten(0, (self.prompts, self.pictures))
            maps = self._words(maps) if crossed else self._places(maps)
            if crossed and not in_middle and maps.shape[-2] == self.quarter:
                self._sums[layer] = self._sums.get(layer, 0) + maps.mean(2)  # (P, n, N, L)
            probs = torch.cat([probs[:half], maps.flatten(0, 1)])
            return layer.to_out((probs @ v).transpose(1, 2).flatten(2))

        return forward

    def _words(self, maps: Tensor) -> Tensor:
        source, result = maps[0], [maps[0]]
        for number, own in enumerate(maps[1:]):
            new = self.new[number]
            edited = (source @ self.mappers[number]) * (1 - new) + own * new
            edited = edited * self.factors[number]
            alpha = self.alphas[self.step, number]
            result.append(alpha * edited + (1 - alpha) * own)
        return torch.stack(result)

    def _places(self, maps: Tensor) -> Tensor:
        first, behind = self.self_steps
        if maps.shape[-2] > self.quarter or not first <= self.step < behind:
            return maps
        return maps[:1].expand_as(maps)

    def _blended(self, x: Tensor, steps: int) -> Tensor:
        if self.blend is None or self.step + 1 <= int(self.blend.start * steps):
            return x
        h, w = x.shape[-2:]
        maps = torch.stack([*self._sums.values()]).mean(0)  # (P, n, N, L)
        maps = maps.unflatten(2, (h // 4, w // 4))
        mask = self._mask(maps, self.blend.tokens, (h, w), pooled=True)
        if self.blend.subtract:
            mask = mask & ~self._mask(maps, self.blend.subtract, (h, w), pooled=False)
        self.masks.append(mask)
        x = x.unflatten(0, (self.prompts, self.pictures))
        return (x[:1] + mask.float()[:, :, None] * (x - x[:1])).flatten(0, 1)

    def _mask(self, maps: Tensor, tokens, side: tuple[int, int], *, pooled: bool) -> Tensor:
        rows = [each[..., list(places)].sum(-1) for each, places in zip(maps, tokens, strict=True)]
        heat = torch.stack(rows)  # (P, n, h/4, w/4)
        if pooled:
            heat = F.max_pool2d(heat, 3, stride=1, padding=1)
        heat = F.interpolate(heat, size=side, mode="nearest")
        marked = heat / heat.amax((-2, -1), keepdim=True) > self.blend.threshold
        return marked | marked[:1]


def _ddim(steps: int):
    """Yield time, alpha_bar here and alpha_bar of the next step of SD's schedule, in order."""
    root = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)
    alpha_bars = (1 - root**2).cumprod(0)
    times = [*range(1, 1000, 1000 // steps)]
    before = [0, *times[:-1]]
    for time, previous in zip(reversed(times), reversed(before), strict=True):
        yield time, float(alpha_bars[time]), float(alpha_bars[previous])
