"""``with control_attention(model, controller):`` attention as an object beside the model says.

Layers get another ``processor`` until the block ends; nothing else of the model is touched, and no
forward method knows of it.

Shapes: b rows of a call, heads, N queries, M keys, d head width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.moments import (
    LISTENERS,
    Moment,
    control_of,
    rows_of_call,
    unet_of,
)
from ldm.modules.attention_control.sites import Site, recomputing, sites_of
from ldm.modules.attention_processors import scores
from ldm.types import AttentionProcessor


@contextmanager
def control_attention(model: nn.Module, controller: Controller) -> Iterator[Control]:
    """Let a controller read and change a UNet's attention inside the block.

    Whatever draws with the model in the block is under control. Afterwards, and after errors too,
    the model is as it was.

    Args:
        model: A hub, its ``model`` or the UNet.
        controller: Is told of layers and steps, see ``Controller``.

    Raises:
        UserError: There is no UNet that can be controlled, or it is under control already.

    Example:
        store = AttentionStore()
        with control_attention(model, store):
            samples, _ = DDIMSampler(model).sample(50, 1, (4, 64, 64), cond, ...)
        maps = store.mean("input_blocks.4.1.transformer_blocks.0.attn2")  # (1, heads, N, 77)
    """
    unet = unet_of(model)
    if unet is None:
        raise UserError(
            f"a {type(model).__name__} was given for attention control; expected a diffusion model "
            "with ldm's UNet; give the model that load_model returns"
        )
    if control_of(unet) is not None:
        raise UserError(
            "the model's attention is under control already; one controller has charge of a model "
            "at a time; put several into one: Chain(first, second)"
        )
    control = Control(unet, controller)
    try:
        control.attach()
        yield control
    finally:
        control.detach()


class Control:
    """A model under control; ``control_attention`` makes it.

    Attributes:
        unet: The UNet.
        controller: What has charge of it.
        sites: Its layers of attention, in the order in which they compute.
        moment: The step of the walk that is under way.
    """

    def __init__(self, unet: nn.Module, controller: Controller) -> None:
        self.unet, self.controller = unet, controller
        self._layers = sites_of(unet)
        self.sites = tuple(self._layers)
        self.moment, self._pictures, self._layout = Moment(), None, None
        self._latent = (0, 0)
        self._before: list[tuple[Any, str, Any]] = []
        self._hook: Any = None

    def attach(self) -> None:
        """Take charge of the layers."""
        self._hook = self.unet.input_blocks[0].register_forward_pre_hook(self._see_latent)
        for block, flag in list(recomputing(self.unet)):
            # Layers would be computed, and the controller called, twice.
            self._put(block, flag, False)
        for site, layer in self._layers.items():
            self._put(layer, "processor", _Controlled(self, site, layer.processor))
        LISTENERS.append(self)
        self.controller.begin(self.sites)

    def detach(self) -> None:
        """Give back what ``attach`` took, in reverse order."""
        if self in LISTENERS:
            LISTENERS.remove(self)
        while self._before:
            owner, name, before = self._before.pop()
            delattr(owner, name)
            vars(owner).update(before)
        if self._hook is not None:
            self._hook.remove()

    def _put(self, owner: nn.Module, name: str, value: Any) -> None:
        own = vars(owner)
        self._before.append((owner, name, {name: own[name]} if name in own else {}))
        setattr(owner, name, value)

    def _see_latent(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:  # noqa: ARG002
        self._latent = tuple(inputs[0].shape[-2:])

    def tell(
        self, moment: Moment, pictures: int | None, layout: Sequence[str] | None = None
    ) -> None:
        """Learn where a walk is; samplers call it.

        Args:
            moment: The step.
            pictures: B, the rows of the sampler's batch; None outside of a walk.
            layout: The parts that follow one another in the model's batch, as
                ``("uncond", "cond")``; None where it is the reference's.
        """
        if moment.number == 0 and self.moment.number != 0:
            self.controller.begin(self.sites)
        self.moment, self._pictures, self._layout = moment, pictures, layout

    @contextmanager
    def at(
        self,
        number: int,
        total: int,
        time: float | None = None,
        *,
        pictures: int | None = None,
        layout: Sequence[str] | None = None,
    ) -> Iterator[None]:
        """Say, in a loop of your own, which step the calls inside the block belong to.

        Args:
            number: Steps done before.
            total: Steps in all.
            time: Model time.
            pictures: B; None takes every row as a picture under its prompt.
            layout: See ``tell``.
        """
        self.tell(Moment(number, total, time), pictures, layout)
        try:
            yield
        finally:
            self.tell(Moment(), None)

    def now(self, site: Site) -> tuple[Site, Moment]:
        """Return a layer with the present side of its map, and the present moment."""
        h, w = self._latent
        side = (-(-h // site.rate), -(-w // site.rate))
        return replace(site, side=side, latent=(h, w)), self.moment

    def rows(self, count: int) -> list:
        """Return what the rows of the present call stand for."""
        return rows_of_call(count, self._pictures, self._layout)


class _Controlled:
    """The arithmetic of one layer under control.

    Args:
        control: Knows the step.
        site: Which layer it is.
        own: Its arithmetic without control.
    """

    def __init__(self, control: Control, site: Site, own: AttentionProcessor) -> None:
        self.control, self.site, self.own = control, site, own

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, scale: float
    ) -> Tensor:
        controller = self.control.controller
        site, moment = self.control.now(self.site)
        if not controller.wants(site, moment):
            return self.own(q, k, v, mask=mask, scale=scale)
        probs = probabilities(q, k, mask=mask, scale=scale)  # (b, heads, N, M)
        version = probs._version
        used = controller(probs, site, moment, self.control.rows(len(q)))
        used = probs if used is None else used
        _check(used, probs, controller, site)
        if probs._version != version:  # changed in place
            probs = probabilities(q, k, mask=mask, scale=scale)
        changed = _rows_that_differ(used, probs)  # (b,)
        if changed.all():
            return torch.einsum("bhnm,bhmd->bhnd", used.to(v.dtype), v)  # (b, heads, N, d)
        # The kernel sees the whole batch, so that rows left alone are the same to the bit.
        out = self.own(q, k, v, mask=mask, scale=scale)
        if not changed.any():
            return out
        product = torch.einsum("bhnm,bhmd->bhnd", used[changed].to(v.dtype), v[changed])
        return out.index_put((changed,), product.to(out.dtype))


def probabilities(q: Tensor, k: Tensor, *, mask: Tensor | None, scale: float) -> Tensor:
    """Return softmax(scale q k^T) in float32: (b,heads,N,d), (b,heads,M,d) -> (b,heads,N,M)."""
    with _counting():
        found = scores(q, k, mask=mask, scale=scale)
        return found.softmax(dim=-1, dtype=torch.float32)


@contextmanager
def _counting() -> Iterator[None]:
    """Make tensors that count their changes; those of inference mode do not."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


def _rows_that_differ(used: Tensor, probs: Tensor) -> Tensor:
    """Return in which rows of a call two tables differ: (b, heads, N, M) -> bool (b,)."""
    if used is probs:
        return torch.zeros(len(probs), dtype=torch.bool, device=probs.device)
    return (used != probs).flatten(1).any(1)


def _check(used: Any, probs: Tensor, controller: Controller, site: Site) -> None:
    """Refuse what cannot stand in place of probabilities.

    Raises:
        UserError: It is no tensor of their shape.
    """
    if not isinstance(used, Tensor) or used.shape != probs.shape:
        found = f"shape {tuple(used.shape)}" if isinstance(used, Tensor) else type(used).__name__
        raise UserError(
            f"{type(controller).__name__} returned {found} for {site.path}; expected the shape of "
            f"the probabilities that it was given, {tuple(probs.shape)}, or None; correct it"
        )
