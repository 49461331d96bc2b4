"""Reference-only: self-attention also sees a picture's features at the same noise, without weights.

At every step the UNet first looks at the noised reference and keeps what goes into each layer of
self-attention; the picture's own layers then attend to that as well, as in Mikubill's extension:

    rows under a prompt         attention(x, [x, reference])
    rows under the empty one    s attention(x, x) + (1 - s) attention(x, [x, reference])

with s the style fidelity. A scale below 1 leaves out layers, the narrowest first.
Shapes: b rows of a call, N tokens of a layer, C their width, h w latent sides.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldm.adapters.control.drawn import ASIDE, Options
from ldm.adapters.control.hints import Hint, Picture
from ldm.adapters.control.modes import BALANCED, PROMPT, check_mode
from ldm.adapters.handle import Handle, Scale, require_unet
from ldm.adapters.report import Report, base_of_model
from ldm.errors import UserError
from ldm.modules.attention import BasicTransformerBlock
from ldm.modules.attention_control.moments import present_rows
from ldm.wrapping import Wrapping

FIDELITY = 0.5
INPUTS = ("x", "timesteps", "context", "y")
"""What the UNet is given for the reference too; a fork's own keywords are the picture's."""
INPAINTING = 9
"""Channels of an inpainting UNet's input: latents, mask, masked picture's latents."""


class ReferenceOnly:
    """Drawing by a reference picture; there is nothing to read.

    Args:
        model: The hub.

    Attributes:
        report: What it is.
    """

    def __init__(self, model: nn.Module) -> None:
        self.report = Report(Path("reference"), "reference-only", "no", base_of_model(model))

    def attach(
        self,
        model: nn.Module,
        image: Picture,
        scale: Scale = 1.0,
        start: float = 0.0,
        end: float = 1.0,
        mode: str = BALANCED,
        *,
        style_fidelity: float = FIDELITY,
        seed: int = 0,
        resize: str = "stretch",
    ) -> ReferenceHandle:
        """Let a model draw by a picture until the handle's ``detach``.

        Args:
            model: The hub, with its first stage.
            image: A picture, or a tensor (1 or B, 3, H, W) in [0, 1].
            scale: The share of layers that see it, widest first: a number or a function of the
                step.
            start: From which fraction of the steps on.
            end: Up to which fraction.
            mode: ``balanced`` takes ``style_fidelity``; ``prompt`` is 0, ``control`` 1.
            style_fidelity: s, 0 to 1.
            seed: Of the noise on the reference; the sampler's random numbers are not touched.
            resize: How an image of another size is fitted; see ``hints.fitted``.

        Raises:
            UserError: An option, or the image, is none that can be used.
        """
        check_mode(mode)
        if not 0.0 <= style_fidelity <= 1.0:
            raise UserError(f"style_fidelity {style_fidelity} given; expected 0 to 1")
        fidelity = {BALANCED: style_fidelity, PROMPT: 0.0}.get(mode, 1.0)
        rate = model.first_stage_model.downsampling_factor
        hint = Hint(image, resize, rate, rate)
        return ReferenceHandle(model, hint, scale, Options(start, end, mode), fidelity, seed)


class ReferenceHandle(Handle):
    """A reference picture on a model.

    Args:
        model: The hub.
        hint: The picture.
        scale: The share of layers that see it.
        options: When.
        fidelity: s.
        seed: Of the noise on the reference.
    """

    def __init__(
        self,
        model: nn.Module,
        hint: Hint,
        scale: Scale,
        options: Options,
        fidelity: float,
        seed: int,
    ) -> None:
        super().__init__(model, scale)
        self._hint, self._options, self._fidelity, self._seed = hint, options, fidelity, seed
        self._unet, self._wrapping = require_unet(model), Wrapping()
        self._latent: tuple[Any, Tensor] | None = None
        self._share, self._writing = 0.0, False
        layers = _self_attention(self._unet)
        self._kept: list[list[Tensor]] = [[] for _ in layers]
        for number, layer in enumerate(layers):
            self._wrapping.put(layer, "forward", partial(self._attend, number))
        self._hooks = [
            self._unet.register_forward_pre_hook(self._look, with_kwargs=True),
            self._unet.register_forward_hook(self._forget),
        ]

    def _attend(
        self, number: int, own: Any, x: Tensor, context: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """Attend from x (b, N, C) to itself and the reference, or keep x if it is the reference."""
        if self._writing and self._share > number / len(self._kept):
            self._kept[number].append(x)
        kept = self._kept[number]
        if ASIDE.get() or not kept:
            return own(x, context=context, **kwargs)
        if len(kept) > 1:  # rows that were computed in turns
            kept[:] = [torch.cat(kept)]
        rows = self.follower.rows(len(x))
        context = x if context is None else context
        seen = kept[0][list(present_rows(len(x)))]
        out = own(x, context=torch.cat([context, seen], dim=1), **kwargs)
        empty = [i for i, row in enumerate(rows) if row.part == "uncond"]
        if empty and self._fidelity:
            alone = own(x[empty], context=context[empty], **kwargs)
            out[empty] = torch.lerp(out[empty], alone, self._fidelity)
        return out

    def _look(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Let the UNet see the reference at the noise of the call that follows."""
        self._share = self.strength()
        if ASIDE.get() or self._share <= 0 or not self._options.cover(self.follower.moment):
            return
        given = dict(zip(INPUTS, args, strict=False))
        given |= {name: value for name, value in kwargs.items() if name in INPUTS}
        given["x"] = self._noised(given["x"], given["timesteps"])
        token, self._writing = ASIDE.set(True), True
        try:
            unet.forward(**given)
        finally:
            self._writing = False
            ASIDE.reset(token)

    def _noised(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Return the reference for the rows of x (b, C, h, w), noised to their steps."""
        rows = self.follower.rows(len(x))
        z = self._hint.of_pictures(self._encoded(x), [row.picture for row in rows])
        z = z.to(x.dtype).expand(len(x), -1, -1, -1)
        generator = torch.Generator().manual_seed(self._seed + (self.follower.moment.number or 0))
        noise = torch.randn(z.shape[1:], generator=generator).to(z).expand_as(z)
        noised = self.model.q_sample(z, timesteps.round().long(), noise=noise).to(x.dtype)
        if x.shape[1] != INPAINTING:
            return noised
        return torch.cat([noised, torch.zeros_like(z[:, :1]), z], dim=1)

    @torch.no_grad()
    def _encoded(self, x: Tensor) -> Tensor:
        """Return the reference's mean latents (n, C, h, w)."""
        key = tuple(x.shape[-2:]), x.device
        if self._latent is None or self._latent[0] != key:
            pixels = self._hint.at(key[0]).to(x.device) * 2.0 - 1.0
            found = self.model.encode_first_stage(pixels)
            z = found if isinstance(found, Tensor) else found.mode()
            self._latent = key, self.model.scale_factor * z
        return self._latent[1]

    def _forget(self, *_: Any) -> None:
        if not ASIDE.get():
            for kept in self._kept:
                kept.clear()

    def _rest(self) -> None:
        self._latent = None
        self._forget()

    def _release(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._wrapping.undo()
        self._rest()


def _self_attention(unet: nn.Module) -> list[nn.Module]:
    """Return the layers of self-attention, widest first; of one width in the UNet's order."""
    blocks = [m for m in unet.modules() if isinstance(m, BasicTransformerBlock)]
    blocks = [block for block in blocks if not block.disable_self_attn]
    blocks.sort(key=lambda block: -block.norm1.normalized_shape[0])
    return [block.attn1 for block in blocks]
