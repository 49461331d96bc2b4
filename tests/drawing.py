"""Draw with the tiny model's pipeline, and keep what it told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.progress import Notice
from ldm.pipelines.staging import StagedModel, Staging
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings

STEPS = 4  # divides 1000: uniform spacing takes exactly as many
PROMPTS = ["a cat", "a dog", "a tree", "a house", "a boat"]


def text_settings(**changes):
    return replace(Txt2ImgSettings(prompt="a cat", ddim_steps=STEPS, n_samples=2), **changes)


def image_settings(init_img, **changes):
    base = Img2ImgSettings(prompt="a cat", ddim_steps=STEPS, n_samples=3, init_img=str(init_img))
    return replace(base, **changes)


def draw(pipeline, settings, **rest):
    """Return a run's pictures, and everything else that it told."""
    events = []
    pictures = list(pipeline.generate(settings, observer=events.append, **rest))
    return pictures, events


def pixels_of(pictures):
    return np.stack([picture.pixels for picture in pictures])


def drawn(pipeline, **changes):
    """Return the pixels (1, H, W, 3) of one picture of a prompt."""
    return pixels_of(draw(pipeline, text_settings(n_samples=1, n_iter=1, **changes))[0])


def said(events):
    """Return the texts of a run's notices."""
    return [event.text for event in events if isinstance(event, Notice)]


def staged_on_processor(ckpt):
    """Return a pipeline whose parts take turns, as on a small device, with a processor as that."""
    whole = Pipeline.load(ckpt, device="cpu")
    parts = StagedModel(whole.model, Staging(), torch.device("cpu"))
    return Pipeline(whole.model, whole.choice, staged=parts)
