"""What research on attention writes: a controller, told of every layer and of every step.

Shapes: b rows of a call, heads, N queries, M keys; x (B, C, h, w).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from ldm.modules.attention_control.moments import Moment, Row
    from ldm.modules.attention_control.sites import Site

Predict = Callable[[Tensor], Tensor]
"""Call the model on samples (B, C, h, w) at the step's time, under the prompts alone."""


class Controller:
    """Reads attention and says what to use in its place. Every method has a default.

    A model may be called several times a step, and a call may hold some of the rows only (small
    devices take them in parts): rely on ``rows``. Rows come in the order of the batch.
    """

    def begin(self, sites: Sequence[Site]) -> None:
        """Forget the last walk; called before the first step of one with the model's sites."""

    def wants(self, site: Site, moment: Moment) -> bool:  # noqa: ARG002
        """Return whether to be called for a layer; the others keep their fused kernel."""
        return True

    def __call__(
        self,
        probs: Tensor,  # noqa: ARG002
        site: Site,  # noqa: ARG002
        moment: Moment,  # noqa: ARG002
        rows: Sequence[Row],  # noqa: ARG002
    ) -> Tensor | None:
        """Say what to use in place of probabilities.

        Args:
            probs: (b, heads, N, M) after the softmax, float32; with a gradient inside
                ``torch.enable_grad()``.
            site: Which layer it is.
            moment: Which step of the walk.
            rows: What each of the b rows stands for.

        Returns:
            The same shape; what places give need not sum to 1. None, or what equals ``probs``,
            changes nothing: the layer's fused kernel then computes the result, as without
            control. It does so for each row of the batch that is left as it was.
        """
        return None

    def before_step(self, x: Tensor, moment: Moment, predict: Predict) -> Tensor:  # noqa: ARG002
        """Return the samples (B, C, h, w) from which a step is taken.

        Args:
            x: As the last step left them; not to be changed in place.
            moment: The step that follows.
            predict: Calls the model and so this controller; for gradients with respect to ``x``
                call it inside ``torch.enable_grad()``.
        """
        return x

    def after_step(self, x: Tensor, moment: Moment) -> Tensor:  # noqa: ARG002
        """Return the samples (B, C, h, w) with which the walk goes on after a step."""
        return x
