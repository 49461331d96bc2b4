"""GLIGEN on a model: in each transformer block, between its attentions, positions look at boxes.

Shapes: P samples, O boxes, D width of the tokens, N positions of a map, C its width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from ldm.adapters.gligen.boxes import Boxes, ground
from ldm.adapters.gligen.layers import Fuser, PositionNet
from ldm.adapters.handle import Handle, Scale, require_unet
from ldm.adapters.report import Report, base_of_width, wrong_base
from ldm.errors import UserError
from ldm.modules.attention import BasicTransformerBlock

KIND = "GLIGEN"


class Gligen(nn.Module):
    """GLIGEN's weights.

    Args:
        position_net: Makes tokens of boxes.
        fusers: One for each transformer block, in the order in which blocks compute.
        names: The blocks' names in the file.
        report: What is known of it.
    """

    def __init__(
        self,
        position_net: PositionNet,
        fusers: Sequence[Fuser],
        names: Sequence[str],
        report: Report,
    ) -> None:
        super().__init__()
        self.position_net, self.fusers = position_net, nn.ModuleList(fusers)
        self.names, self.report = list(names), report

    @property
    def width(self) -> int:
        """F, the width of a text's feature."""
        return len(self.position_net.null_positive_feature)

    def attach(
        self,
        model: nn.Module,
        boxes: Boxes = (),
        scheduled_sampling: float = 0.3,
        scale: Scale = 1.0,
    ) -> GligenHandle:
        """Let a model draw things where boxes are.

        Args:
            model: The hub.
            boxes: Texts with their boxes, such as ``[("a cat", (0.1, 0.2, 0.5, 0.9))]``; at most
                30. A list of such lists has boxes for each sample of a batch.
            scheduled_sampling: Share of the steps, from the first on, in which it acts.
            scale: Multiplies its gates.

        Raises:
            UserError: It is made for other models, or a box is malformed.
        """
        handle = GligenHandle(self, model, scale, scheduled_sampling)
        try:
            handle.place(boxes)
        except BaseException:
            handle.detach()
            raise
        return handle


class GligenHandle(Handle):
    """GLIGEN on a model.

    Attributes:
        scheduled_sampling: Share of the steps in which it acts.
    """

    def __init__(
        self, adapter: Gligen, model: nn.Module, scale: Scale, scheduled_sampling: float
    ) -> None:
        blocks = _fitting(adapter, model)
        super().__init__(model, scale)
        self.adapter, self.scheduled_sampling = adapter, scheduled_sampling
        self._tokens: Tensor | None = None  # (1 + P, O, D), the first without boxes
        self._put = []
        for block, fuser in zip(blocks, adapter.fusers, strict=True):
            change = _Between(self, fuser)
            block.between = [*block.between, change]
            self._put.append((block, change))

    def place(self, boxes: Boxes) -> None:
        """Draw with other boxes from now on; in training, call it before each call of the model.

        Raises:
            UserError: A box is malformed, or there are too many.
        """
        net = self.adapter.position_net
        found = ground(self.model, boxes, self.adapter.width)
        like = net.null_positive_feature
        self._tokens = net(*(each.to(like) for each in (found.boxes, found.features, found.there)))

    def share(self) -> float:
        """Return how strongly it acts in this step."""
        number, total = self.follower.moment.number, self.follower.moment.total
        # Whole steps, rounded down, as the released code and diffusers count them.
        if number is not None and total and number >= int(self.scheduled_sampling * total):
            return 0.0
        return self.strength()

    def rows(self, count: int) -> Tensor:
        """Return the tokens (count, O, D) that each row of the present call looks at.

        Raises:
            UserError: There are more samples than lists of boxes.
        """
        samples = len(self._tokens) - 1
        rows = self.follower.rows(count)
        if samples > 1 and max(row.picture for row in rows) >= samples:
            raise UserError(
                f"boxes are given for {samples} samples, and {count} rows are drawn; expected one "
                "list of boxes for each sample; give as many, or one for all"
            )
        numbers = [
            0 if row.part == "uncond" else 1 + (row.picture if samples > 1 else 0) for row in rows
        ]
        return self._tokens[numbers]

    def _release(self) -> None:
        for block, change in self._put:
            block.between = [each for each in block.between if each is not change]
            if not block.between:
                del block.between  # the class's own shows again


class _Between:
    """One block's fuser.

    Args:
        handle: Knows the tokens and the step.
        fuser: Its weights.
    """

    def __init__(self, handle: GligenHandle, fuser: Fuser) -> None:
        self.handle, self.fuser = handle, fuser
        self._held: dict[str, Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        share = self.handle.share()
        if share == 0.0:
            return x
        tokens = self.handle.rows(len(x)).to(x)
        return functional_call(self.fuser, self._weights(x), (x, tokens, share))

    def _weights(self, x: Tensor) -> dict[str, Tensor]:
        """Return the fuser's weights in the type and on the device of a map.

        On another device than their own they live for the call only: where memory is short, as
        under a device plan, sixteen fusers do not fit beside the model.
        """
        own = dict(self.fuser.named_parameters())
        first = next(iter(own.values()))
        if first.device == x.device and first.dtype == x.dtype:
            return own
        held = self._held
        if held is None or next(iter(held.values())).dtype != x.dtype:
            held = {name: value.to(x) for name, value in own.items()}
        learns = any(value.requires_grad for value in own.values())
        keeps = first.device == x.device and not learns
        self._held = held if keeps else None
        return held


def blocks_of(model: nn.Module) -> dict[str, BasicTransformerBlock]:
    """Return a model's transformer blocks by their names, in the order in which they compute."""
    unet = require_unet(model)
    return {
        f"{half}.{name}": block
        for half in ("input_blocks", "middle_block", "output_blocks")
        for name, block in getattr(unet, half).named_modules()
        if isinstance(block, BasicTransformerBlock)
    }


def new_gligen(model: nn.Module, hidden: int = 512) -> Gligen:
    """Make a GLIGEN that has learned nothing yet, and changes nothing; its weights can learn.

    Args:
        model: The hub.
        hidden: Width inside the net that makes tokens of boxes.

    Raises:
        UserError: The model is not drawn from texts.
    """
    blocks = blocks_of(model)
    if not blocks:
        raise UserError(
            "a model without cross-attention was given for GLIGEN; expected one that is drawn from "
            "texts; give another"
        )
    context_dim = _context_dim(next(iter(blocks.values())))
    report = Report(Path("new"), KIND, "original", base_of_width(context_dim), modules=len(blocks))
    fusers = [
        Fuser(block.attn1.to_q.in_features, context_dim, block.attn1.heads)
        for block in blocks.values()
    ]
    for block, fuser in zip(blocks.values(), fusers, strict=True):
        for part in ("to_q", "to_k", "to_v", "to_out"):  # to begin near what the block knows
            getattr(fuser.attn, part).load_state_dict(getattr(block.attn1, part).state_dict())
    net = PositionNet(context_dim, context_dim, hidden)
    return Gligen(net, fusers, list(blocks), report)


def _fitting(adapter: Gligen, model: nn.Module) -> list[BasicTransformerBlock]:
    """Return the model's blocks in the fusers' order, and tell the fusers their heads.

    Raises:
        UserError: They are not the ones that the adapter was made for.
    """
    blocks, report = list(blocks_of(model).values()), adapter.report
    theirs = [fuser.linear.in_features for fuser in adapter.fusers]
    if not blocks or _context_dim(blocks[0]) != theirs[0]:
        raise wrong_base(report.path, KIND, report.base, model)
    if [len(block.norm1.weight) for block in blocks] != [
        len(fuser.norm1.weight) for fuser in adapter.fusers
    ]:
        raise wrong_base(report.path, KIND, f"a UNet of {len(theirs)} other blocks", model)
    for block, fuser in zip(blocks, adapter.fusers, strict=True):
        fuser.attn.heads, fuser.attn.scale = block.attn1.heads, block.attn1.scale
    _follow(adapter, model)
    return blocks


def _follow(adapter: Gligen, model: Any) -> None:
    """Put the adapter where the model is, unless a plan keeps parts of it elsewhere."""
    devices = {parameter.device for parameter in require_unet(model).parameters()}
    if len(devices) == 1 and (device := devices.pop()).type != "meta":
        adapter.to(device)


def _context_dim(block: BasicTransformerBlock) -> int:
    return block.attn2.to_k.in_features
