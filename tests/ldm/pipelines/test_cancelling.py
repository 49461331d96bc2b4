"""A run that is cancelled from outside ends in the middle of a step, and leaves no trace."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from drawing import draw, image_settings, pixels_of, text_settings
from torch import nn

from ldm.modules.attention_processors import AttentionLayer, sdpa
from ldm.pipelines import cancelling
from ldm.pipelines.cancelling import Cancel, Cancelled, interruptible, pacing
from ldm.pipelines.progress import Progress
from ldm.pipelines.together import draw_together


class After(Cancel):
    """A token that ends the run when it is looked at for the nth time."""

    def __init__(self, looks):
        super().__init__()
        self.left = looks

    def check(self):
        self.left -= 1
        if self.left < 0:
            self.cancel("enough")
        super().check()


def traces(model):
    """Return the modules of a model to which something was done."""
    return [
        each
        for each in model.modules()
        if each._forward_pre_hooks
        or each._forward_hooks
        or {"processor", "forward"} & {*vars(each)}
    ]


def looks_of(pipeline, settings):
    """Return how often a whole run looks at its token, and its pictures."""
    token = After(10**9)
    pictures, _ = draw(pipeline, settings, cancel=token)
    return 10**9 - token.left, pictures


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("queries", [600, 1000, 1900])
def test_attention_in_parts_has_the_bits_of_attention_in_one(monkeypatch, queries, dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, queries, 3, 24, dtype=dtype).transpose(1, 2) for _ in range(3))
    whole = sdpa(q, k, v, mask=None, scale=0.2)
    layer = AttentionLayer()
    layer.weight = nn.Parameter(torch.zeros(1))
    monkeypatch.setattr(cancelling, "LONG", 2**20)
    token = After(10**9)
    with interruptible(layer, token):
        parts = layer.processor(q, k, v, mask=None, scale=0.2)
    assert torch.equal(parts, whole)
    assert 10**9 - token.left > 2 * 3  # it was looked at once a head, or more often


def test_a_token_that_nobody_uses_changes_no_byte_and_leaves_nothing_behind(pipeline, monkeypatch):
    monkeypatch.setattr(cancelling, "LONG", 1)
    settings = text_settings(n_iter=2)
    plain, _ = draw(pipeline, settings)
    looks, watched = looks_of(pipeline, settings)
    assert np.array_equal(pixels_of(plain), pixels_of(watched))
    assert looks > 100
    assert not traces(pipeline.model)


def test_a_cancelled_run_ends_within_its_first_step(pipeline):
    events, token = [], After(40)
    with pytest.raises(Cancelled, match="enough"):
        list(pipeline.generate(text_settings(), observer=events.append, cancel=token))
    assert [each.done for each in events if isinstance(each, Progress)] == [0]
    assert not traces(pipeline.model)


def test_a_cancelled_run_ends_wherever_it_is(pipeline):
    settings = text_settings(n_iter=1, n_samples=1, ddim_steps=2)
    looks, whole = looks_of(pipeline, settings)
    for last in range(0, looks, 7):
        with pytest.raises(Cancelled):
            list(pipeline.generate(settings, observer=lambda _: None, cancel=After(last)))
    again, _ = draw(pipeline, settings)
    assert np.array_equal(pixels_of(again), pixels_of(whole))


def test_pictures_are_encoded_and_decoded_under_the_token(pipeline, init_img):
    seen = []
    first_stage = pipeline.model.first_stage_model

    class Spying(Cancel):
        def check(self):
            frames = [first_stage.encoder.conv_in, first_stage.decoder.conv_out]
            seen.append([bool(each._forward_pre_hooks) for each in frames])

    draw(pipeline, image_settings(init_img, n_samples=1), cancel=Spying())
    assert [True, True] in seen


def test_what_was_drawn_before_is_kept(pipeline):
    settings = text_settings(n_iter=3, n_samples=1)
    whole, _ = draw(pipeline, settings)
    token, kept = Cancel(), []
    with pytest.raises(Cancelled):
        for picture in pipeline.generate(settings, observer=lambda _: None, cancel=token):
            kept.append(picture)
            token.cancel()
    assert len(kept) == 1
    assert np.array_equal(kept[0].pixels, whole[0].pixels)


def test_a_run_may_be_cancelled_before_it_begins_by_any_thread(pipeline):
    event = threading.Event()
    thread = threading.Thread(target=Cancel(event).cancel)
    thread.start()
    thread.join()
    token = Cancel(event)
    assert token.asked
    with pytest.raises(Cancelled):
        next(pipeline.generate(text_settings(), observer=lambda _: None, cancel=token))


def test_requests_that_are_drawn_together_end_together(pipeline):
    settings = [text_settings(n_iter=1, n_samples=1, seed_mode="per-image", seed=k) for k in (1, 2)]
    requests = [pipeline.prepare(each) for each in settings]
    with pytest.raises(Cancelled):
        list(draw_together(pipeline, requests, observer=lambda _: None, cancel=After(60)))
    assert not traces(pipeline.model)
    token = After(10**9)
    drawn = dict(draw_together(pipeline, requests, observer=lambda _: None, cancel=token))
    for index, each in enumerate(settings):
        assert np.array_equal(drawn[index].pixels, draw(pipeline, each)[0][0].pixels)


def test_a_cuda_device_is_never_more_than_two_steps_behind(monkeypatch):
    told = []

    class Event:
        def __init__(self):
            self.number = len([each for each in told if each[0] == "made"])
            told.append(("made", self.number))

        def record(self):
            """Nothing to note."""

        def synchronize(self):
            told.append(("awaited", self.number))

    monkeypatch.setattr(torch.cuda, "Event", Event)
    step = pacing(torch.device("cuda"))
    for _ in range(4):
        step()
    made = [("made", k) for k in range(4)]
    assert told == [*made[:3], ("awaited", 0), made[3], ("awaited", 1)]
    assert pacing(torch.device("cpu"))() is None
