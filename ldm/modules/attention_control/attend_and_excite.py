"""Attend-and-Excite: before a step, move the samples so that no chosen word is neglected.

arXiv:2301.13826, Algorithm 1. Shapes: B pictures, L tokens, h w sides of a map; x (B,C,h0,w0).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.errors import UserError
from ldm.modules.attention_control.controller import Controller, Predict
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.sites import QUARTER, Site, nearest_rate

THRESHOLDS, UNTIL, REFINEMENTS = {0.0: 0.05, 0.2: 0.5, 0.4: 0.8}, 0.5, 20  # 0.2: step 10 of 50
BLUR = torch.tensor([-4.0, -2, -4, -2, 0, -2, -4, -2, -4]).softmax(0).view(1, 1, 3, 3)  # sigma 0.5


class AttendAndExcite(Controller):
    """Moves each sample down the slope of its own loss (Eq. 1) in the walk's first half.

    At the steps of ``THRESHOLDS`` it goes on until each word attends so much. It needs gradients,
    which neither device plans nor inference mode keep.

    Args:
        words: For each picture the positions of its tokens.
        scale: The first step's size; it falls with the root of 1 ... 0.5 over the walk.
        end: The softmax is over tokens 1 ... end - 1; -1, as published, leaves out the row's last.
    """

    def __init__(self, words: Sequence[Sequence[int]], scale: float = 20.0, end: int = -1) -> None:
        self.words, self.scale, self.end = words, scale, end

    def begin(self, sites: Sequence[Site]) -> None:
        self._rate, self._maps = nearest_rate(sites, QUARTER), None  # a list while it looks

    def wants(self, site: Site, moment: Moment) -> bool:  # noqa: ARG002
        return self._maps is not None and site.kind == "cross" and site.rate == self._rate

    def __call__(self, probs: Tensor, site: Site, *_: Moment | Sequence[Row]) -> None:
        self._maps.append(probs.mean(1).mT.unflatten(-1, site.side))  # (B, L, h, w)

    def before_step(self, x: Tensor, moment: Moment, predict: Predict) -> Tensor:
        number, total = moment.require_walk().number, moment.total
        least = {int(share * total): value for share, value in THRESHOLDS.items()}.get(number)
        alpha = self.scale * (1.0 - 0.5 * number / max(total - 1, 1)) ** 0.5
        moving = torch.full((len(x), 1, 1, 1), number < UNTIL * total, device=x.device)
        for _ in range(1 if least is None else 1 + REFINEMENTS):
            if moving.any():
                loss, grad = self.slope(x, predict)
                x = torch.where(moving, x - alpha * grad, x)
                moving = moving & (loss > 1.0 - (least or 0.0)).view(-1, 1, 1, 1)
        return x

    def slope(self, x: Tensor, predict: Predict) -> tuple[Tensor, Tensor]:
        """Return the loss of each picture (B,) and its gradient with respect to x."""
        if torch.is_inference_mode_enabled():
            raise UserError("inference mode keeps gradients out; use torch.no_grad() in its place")
        self._maps = []
        with torch.enable_grad():
            predict(x := x.detach().requires_grad_())
            loss, self._maps = self.loss(torch.stack(self._maps).mean(0)), None
            return loss.detach(), torch.autograd.grad(loss.sum(), x)[0]

    def loss(self, maps: Tensor) -> Tensor:
        """Return 1 minus the peak of the most neglected word (B,), given maps (B, L, h, w)."""
        heat = (100.0 * maps[:, 1 : self.end]).softmax(1)  # without the start token
        last = heat.shape[1]
        if [min(w, default=0) > 0 and max(w) <= last for w in self.words] != [True] * len(maps):
            raise UserError(
                f"tokens {self.words} were given for {len(maps)} pictures; expected some of 1 ... "
                f"{last} for each; change them"
            )
        heat = F.pad(F.pad(heat, (1, 1, 1, 1), mode="reflect"), (0, 0, 0, 0, 1, 0)).flatten(0, 1)
        peaks = F.conv2d(heat[:, None], BLUR.to(heat)).amax((1, 2, 3)).view(-1, last + 1)
        return torch.stack([1.0 - peaks[n, list(w)].min() for n, w in enumerate(self.words)])
