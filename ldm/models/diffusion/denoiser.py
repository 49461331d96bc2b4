"""What a step rule asks for predictions: the model with its conditioning, guidance and noise.

Shapes: B batch, C channels, h w latent sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ldm.modules.attention_control.moments import Moment, listeners_of, stepping
from ldm.process import prediction
from ldm.process.guidance import make_guider
from ldm.rng import NoiseSource
from ldm.types import Conditioning, EpsModel, Guider


@dataclass
class Denoiser:
    """The model with its conditioning and guidance, for one walk or one step.

    Attributes:
        model: Predicts eps, x0 or v.
        cond: Conditioning of the batch.
        uncond: Unconditional counterpart, or None.
        scale: Of plain guidance; 1 is none.
        noise: Where random numbers come from.
        guider: Merges the two; None is plain guidance.
        temperature: Multiplies the noise that a step adds.
        noise_dropout: Share of that noise set to zero.
        repeat_noise: Give every row the first one's noise.
        quantize_x0: Snap estimates of x0 to the first stage's codebook.
        dynamic_threshold: The largest root mean square of an estimate of x0; None is any.
        score_corrector: Object with ``modify_score(model, eps, x, t, cond, **kwargs)``.
        corrector_kwargs: Its keyword arguments.
        around: Makes another guider of each that is used.
        moment: Which step it is asked in, for attention control.
    """

    model: EpsModel
    cond: Conditioning
    uncond: Conditioning
    scale: float
    noise: NoiseSource
    guider: Guider | None = None
    temperature: float = 1.0
    noise_dropout: float = 0.0
    repeat_noise: bool = False
    quantize_x0: bool = False
    dynamic_threshold: float | None = None
    score_corrector: Any = None
    corrector_kwargs: Mapping[str, Any] | None = None
    around: Callable[[Guider], Guider] | None = None

    def __post_init__(self) -> None:
        self.moment = self._told = Moment()
        if self.guider is None:
            self.guide(self.scale)
        elif self.around is not None:
            self.guider = self.around(self.guider)

    def guide(self, scale: float) -> None:
        """Guide plainly, with ``scale``, from now on."""
        guider = make_guider(scale, self.uncond)
        self.scale, self.guider = scale, guider if self.around is None else self.around(guider)

    def eps(self, x: Tensor, t: float | Tensor, a: Tensor, s: Tensor) -> Tensor:
        """Return the guided noise estimate (B,C,h,w) at x, in the model's output dtype."""
        out, kind = self._guided(x, t), self.model.parameterization
        if kind != "eps":
            out = prediction.to_eps(out.to(x.dtype), x, a, s, kind)
        if self.score_corrector is None:
            return out
        times = times_of(x, t)
        keywords = self.corrector_kwargs or {}
        return self.score_corrector.modify_score(self.model, out, x, times, self.cond, **keywords)

    def x0(self, x: Tensor, t: float | Tensor, a: Tensor, s: Tensor) -> Tensor:
        """Return the guided estimate of the clean sample (B,C,h,w) at x.

        From eps it is DDPM's Eq. 15 (arXiv:2006.11239); see ``ldm.process.prediction``.
        """
        if self.score_corrector is not None:
            eps = self.eps(x, t, a, s).to(x.dtype)
            return self.snap(prediction.to_x0(eps, x, a, s, "eps"))
        out = self._guided(x, t).to(x.dtype)
        return self.snap(prediction.to_x0(out, x, a, s, self.model.parameterization))

    def snap(self, x0: Tensor) -> Tensor:
        """Return ``x0`` as it is wanted: from the codebook, within the threshold."""
        if self.quantize_x0:
            x0 = self.model.first_stage_model.quantize(x0)[0]
        if self.dynamic_threshold is None:
            return x0
        from ldm.process.thresholding import limit_rms

        return limit_rms(x0, self.dynamic_threshold)

    def step_noise(self, x: Tensor) -> Tensor:
        """Draw the noise that a step may add, (B,C,h,w); drawn even where it is multiplied by 0."""
        shape = (1, *x.shape[1:]) if self.repeat_noise else x.shape
        draw = self.noise.randn(shape, x.device, x.dtype).expand(x.shape) * self.temperature
        if self.noise_dropout > 0.0:
            draw = torch.nn.functional.dropout(draw, p=self.noise_dropout)
        return draw

    def begin(self, x: Tensor, moment: Moment) -> Tensor:
        """Say which step begins; return what listeners make of its samples (B,C,h,w)."""
        self.moment = self._told = moment
        for listener in listeners_of(self.model):
            listener.tell(moment, len(x))
        for each in stepping(self.model):
            x = each.before_step(x, moment, self._under_prompt)
        return x

    def end(self, step: Step) -> Step:
        """Return a step that was taken, with what listeners make of its samples."""
        for each in stepping(self.model):
            step = step._replace(x=each.after_step(step.x, self.moment))
        if self.moment.is_last:
            self.close()
        return step

    def recorded(self, rule: StepRule, sampler: Any) -> StepRule:
        """Return a sampler's rule, as the model takes its steps where it records them."""
        graphs = getattr(self.model, "step_graphs", None)  # see ``ldm.kernels.graphs``
        return rule if graphs is None else graphs.whole(rule, sampler, self)

    def close(self) -> None:
        """Say that the walk is over, at its end or before."""
        for listener in listeners_of(self.model):
            if listener.moment is self._told:  # not another walk's
                listener.tell(Moment(), None)

    def _under_prompt(self, x: Tensor) -> Tensor:
        """Return the model's output (B,C,h,w) at the present step for the prompts alone."""
        self._tell(len(x), ("cond",))
        return self.model.apply_model(x, times_of(x, self.moment.time), self.cond)

    def _tell(self, pictures: int, layout: Sequence[str] | None) -> None:
        """Tell who listens what the model is called for next."""
        for listener in listeners_of(self.model):
            # A step that is taken by itself has no number, but a loop around it may have said it.
            self._told = listener.moment if self.moment.number is None else self.moment
            listener.tell(self._told, pictures, layout)

    def _guided(self, x: Tensor, t: float | Tensor) -> Tensor:
        times = times_of(x, t)
        self._tell(len(x), getattr(self.guider, "layout", None))
        graphs = getattr(self.model, "step_graphs", None)  # see ``ldm.kernels.graphs``
        out = graphs and graphs.call(self.guider, x, times, self.cond, self.uncond)
        if out is None:
            out = self.model.apply_model(*self.guider.prepare(x, times, self.cond, self.uncond))
            out = self.guider.combine(out, times)
        self.moment = replace(self.moment, evaluation=self.moment.evaluation + 1)
        return out


OPTIONS = frozenset(f.name for f in fields(Denoiser)) - {
    *("model", "cond", "uncond", "scale", "noise", "guider")
}
"""What a walk passes on to its denoiser."""


def times_of(x: Tensor, t: float | Tensor) -> Tensor:
    """Return a model time as the model takes it (B,), whole numbers as integers."""
    if isinstance(t, Tensor):
        return t
    dtype = torch.long if isinstance(t, int) else torch.float32
    return torch.full((x.shape[0],), t, device=x.device, dtype=dtype)


class Step(NamedTuple):
    """What a step rule returns, each (B,C,h,w): next sample, estimate of x0, guided eps."""

    x: Tensor
    x0: Tensor
    eps: Tensor


StepRule = Callable[[Tensor, int], Step]
"""One step from the sample at an index to the next cleaner one. A rule lives for one walk."""
