"""Encode a run's prompts where they have a grammar: each once, for every batch and step.

Shapes: B pictures, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.prompts.encoding import EncodedPart, PlainEncoder, PromptEncoder
from ldm.prompts.guidance import PromptGuidance, needs_uncond
from ldm.settings.generation import GenerationSettings


def make_encoder(settings: GenerationSettings, conditioner: Any) -> PromptEncoder:
    """Return what encodes the prompts of settings with a conditioner.

    Raises:
        UserError: The conditioner cannot.
    """
    if settings.prompt_syntax == "a1111":
        from ldm.prompts.a1111_encoder import A1111Encoder

        # As in the web UI, the steps that were asked for, also where a picture takes fewer of them.
        given = settings.ddim_steps, settings.clip_skip, settings.emphasis
        return A1111Encoder(conditioner, *given)
    if settings.prompt_syntax == "compel":
        from ldm.prompts.compel_encoder import CompelEncoder

        return CompelEncoder(conditioner, settings.clip_skip)
    return PlainEncoder(conditioner, settings.clip_skip, settings.mixture)


class Prompter:
    """Turns prompts into keywords of ``Sampler.walk``.

    Args:
        settings: The run's.
        model: The hub, with its conditioner.
        remember: Returns what is known under a key, or makes it; None makes it always.

    Raises:
        UserError: The conditioner cannot encode the syntax.
    """

    def __init__(
        self,
        settings: GenerationSettings,
        model: LatentSpaceDiffusion,
        remember: Callable[[Hashable, Callable[[], Any]], Any] | None = None,
    ) -> None:
        self.settings, self.model, self.remember = settings, model, remember
        self.encoder = make_encoder(settings, model.cond_stage_model)

    def condition(self, prompts: Sequence[str], negatives: Sequence[str] = ()) -> dict[str, Any]:
        """Encode B prompts, and what guidance steers away from.

        Args:
            prompts: One for each row of the batch.
            negatives: The same of negative prompts; none is the settings' for all.

        Returns:
            Keywords of ``Sampler.walk``, with encodings (B, N, D); with a ``guider`` where a prompt
            changes on the way or has several parts.

        Raises:
            UserError: A prompt cannot be drawn.
        """
        settings, encode = self.settings, self._encode
        conds = [encode(text) for text in prompts]
        unconds = None
        if needs_uncond(settings.scale, conds):
            texts = negatives or [settings.negative_prompt] * len(conds)
            made = {text: encode(text, negative=True) for text in texts}
            unconds = [made[text] for text in texts]
        guider = PromptGuidance(self.model, settings.scale, conds, unconds, self.encoder)
        keywords = {"unconditional_guidance_scale": settings.scale, **guider.conditionings()}
        return keywords if guider.is_plain else {**keywords, "guider": guider}

    def _encode(self, text: str, *, negative: bool = False) -> tuple[EncodedPart, ...]:
        make = partial(self.encoder.encode, text, negative=negative)
        return make() if self.remember is None else self.remember((text, negative), make)
