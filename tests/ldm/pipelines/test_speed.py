"""Choices of arithmetic are applied while a run lasts, and said to be idle where they are."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from small_hubs import latent

from ldm.kernels import compiled
from ldm.pipelines.speed import _without_effect, sped_up
from ldm.settings.speed import SpeedSettings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def hub():
    return latent(use_ema=False).eval()


def notices_of(hub, settings, *, device=CPU, whole=True):
    found = []
    with sped_up(hub, settings, device, whole, found.append):
        pass
    return [notice.text for notice in found]


def speed_words(settings):
    return [
        f"{flag} has no effect: {why}"
        for flag, why in _without_effect(settings.asked, CPU, True).items()
    ]


def test_the_defaults_touch_nothing_and_say_nothing(hub):
    assert notices_of(hub, SpeedSettings()) == []


@pytest.mark.parametrize(
    "choice", [{"graphs": "auto"}, {"attention_backend": "flash"}, {"decode_beside": "auto"}]
)
def test_what_only_a_card_has_is_said_to_have_no_effect_elsewhere(hub, choice):
    (text,) = notices_of(hub, SpeedSettings(**choice))
    assert next(iter(choice)) in text and "cpu" in text


def test_overlapping_leaves_a_models_arithmetic_alone(hub):
    cuda = torch.device("cuda")
    with mock.patch("ldm.kernels.card.prepared_for_card", side_effect=ZeroDivisionError):
        with sped_up(hub, SpeedSettings(decode_beside="auto"), cuda, True, print):
            pass
        with (
            pytest.raises(ZeroDivisionError),
            sped_up(hub, SpeedSettings(decode_beside="auto", graphs="auto"), cuda, True, print),
        ):
            pass


def test_kernels_are_for_processors_and_cards(hub):
    asked = SpeedSettings(kernels="auto")
    assert notices_of(hub, asked) == []
    (text,) = notices_of(hub, asked, device=torch.device("mps"))
    assert "--kernels has no effect" in text and "mps" in text
    asked = SpeedSettings(kernels="auto", compile=True)
    assert any("--kernels has no effect: --compile" in text for text in speed_words(asked))


def test_a_model_whose_parts_take_turns_is_not_compiled(hub):
    (text,) = notices_of(hub, SpeedSettings(compile=True), whole=False)
    assert "--compile has no effect" in text


def test_a_model_is_compiled_while_the_run_lasts(hub, monkeypatch):
    monkeypatch.setattr(compiled, "check_compiler", lambda device: None)  # noqa: ARG005
    unet = hub.model.diffusion_model
    with sped_up(hub, SpeedSettings(compile=True), CPU, True, print):
        assert unet._compiled_call_impl is not None
        assert hub.first_stage_model.decoder._compiled_call_impl is not None
    assert unet._compiled_call_impl is None
    assert hub.first_stage_model.decoder._compiled_call_impl is None
