"""Features of the UNet's deep blocks, computed in every N-th call and used again in between.

DeepCache (arXiv:2312.00858, section 3.2): between neighbouring steps the deep features change
little, the shallow ones much. The call k of a walk computes all blocks where k is a multiple of N;
the others compute the first blocks and the last, and take what enters these from before.
Shapes: b rows of a call, C' h' w' a map's channels and sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ldm.adapters.control.drawn import ASIDE
from ldm.adapters.handle import require_unet
from ldm.errors import UserError
from ldm.modules.attention_control.moments import Follower, Moment
from ldm.modules.attention_control.parts import part_of_call
from ldm.wrapping import with_attribute


class DeepReuse(Follower):
    """Counts the calls of a model's walks, and keeps features by what their rows stand for.

    Rows may be computed in turns, and guidance may lay out others from one step to the next: what
    is not known for each row of a call is computed. Calls outside of a walk, with gradients, or for
    something else than the pictures, compute everything.

    Args:
        model: The hub.
        every: N; 1 computes always.
        branch: Down to which skip everything is computed; 0 is that of the first input block.

    Attributes:
        shallow: See ``FeatureReuse``.
        call: Calls of the present walk before this one.
        computed: In how many calls since ``follow`` the deep blocks were computed, of ``calls``.

    Raises:
        UserError: The UNet has no such branch.
    """

    def __init__(self, model: nn.Module, every: int, branch: int = 0) -> None:
        super().__init__(model, self._forget)
        blocks = len(require_unet(model).input_blocks)
        if not 0 <= branch < blocks:
            raise UserError(
                f"--reuse {every}:{branch} was given; expected a BRANCH from 0 to {blocks - 1}, "
                "the last skip of this model's UNet; lower it"
            )
        self.every, self.shallow = every, branch + 1
        self.call, self.calls, self.computed = -1, 0, 0
        self._asked: tuple[Any, Any] | None = None
        self._kept: dict[Any, tuple[int, Tensor]] = {}

    def tell(
        self, moment: Moment, pictures: int | None, layout: Sequence[str] | None = None
    ) -> None:
        """Learn which step begins or which call follows, and count it."""
        asked = None if moment.number is None else (moment.number, moment.evaluation)
        if asked is not None and asked != self._asked:
            again = asked == (0, 0)  # the walk before may have ended unseen
            self.call = 0 if again else self.call + 1
            self.calls += 1
            self.computed += self.call % self.every == 0
        self._asked = asked
        super().tell(moment, pictures, layout)

    @property
    def _period(self) -> int:
        return self.call // self.every

    def _acts(self) -> bool:
        in_walk = self.moment.number is not None
        return in_walk and not ASIDE.get() and not torch.is_grad_enabled()

    def recall(self, count: int) -> Tensor | None:
        """Return what enters the first shallow output block (b, C', h', w'); None: compute."""
        if not self._acts() or self.call % self.every == 0:
            return None
        found = [self._kept.get(key) for key in self._keys(count)]
        if any(each is None or each[0] != self._period for each in found):
            return None
        return torch.stack([features for _, features in found])

    def keep(self, h: Tensor) -> None:
        """Take note of what entered it (b, C', h', w') in a call that computed all blocks."""
        if self._acts() and self.every > 1:
            self._kept |= {
                key: (self._period, features)
                for key, features in zip(self._keys(len(h)), h, strict=True)
            }

    def _keys(self, count: int) -> list[Any]:
        return [(row, part_of_call()) for row in self.rows(count)]

    def _forget(self) -> None:
        self._kept.clear()
        self.call = -1


@contextmanager
def reusing(model: nn.Module, every: int, branch: int = 0) -> Iterator[DeepReuse]:
    """Let a model's UNet use deep features again inside the block; see ``DeepReuse``."""
    reuse = DeepReuse(model, every, branch)
    reuse.follow()
    try:
        with with_attribute(reuse.unet, "reuse", reuse):
            yield reuse
    finally:
        reuse.leave()
