"""Shortcuts as a user types them."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings
from ldm.settings.option import options_of
from ldm.settings.shortcuts import GROUP, ShortcutSettings
from ldm.settings.swap import SwapSettings

SCHEMAS = [Txt2ImgSettings, Img2ImgSettings, SwapSettings, LowMemoryTxt2ImgSettings]
NAMES = [each.name for each in options_of(ShortcutSettings)]
ON = {
    "reuse": "3",
    "merge_tokens": 0.5,
    "guidance_interval": "0.2:0.8",
    "guidance_rescale": 0.7,
    "zero_terminal_snr": True,
    "freeu": "1.5,1.6,0.9,0.2",
    "decoder": "taesd_decoder.safetensors",
    "batch_cfg": "off",
}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_program_that_draws_offers_them_under_a_heading_and_takes_none(schema):
    offered = {each.name for each in options_of(schema) if each.group == GROUP}
    assert offered == set(NAMES) == set(ON) and GROUP in schema.groups
    assert not schema().is_shortened


@pytest.mark.parametrize("name", NAMES)
def test_each_makes_a_run_shortened(name):
    settings = Txt2ImgSettings(spacing="trailing", **{name: ON[name]})
    settings.validate()
    assert settings.is_shortened


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"reuse": "0"}, ["--reuse '0'", "N 1 or more"]),
        ({"reuse": "2:-1"}, ["--reuse", "N or N:BRANCH"]),
        ({"reuse": "1:2:3"}, ["--reuse", "N or N:BRANCH"]),
        ({"reuse": "1e3"}, ["--reuse"]),
        ({"merge_tokens": 0.8}, ["--merge_tokens 0.8", "from 0.0 to 0.75"]),
        ({"guidance_interval": "0.8:0.2"}, ["--guidance_interval", "START:END"]),
        ({"guidance_interval": "0.5:0.5"}, ["--guidance_interval"]),
        ({"guidance_interval": "0:nan"}, ["--guidance_interval"]),
        ({"guidance_interval": "0.5"}, ["--guidance_interval"]),
        ({"guidance_rescale": 1.5}, ["--guidance_rescale 1.5"]),
        ({"freeu": "1,2,3"}, ["--freeu", "four numbers"]),
        ({"freeu": "1,2,3,-4"}, ["--freeu", "four numbers"]),
        ({"decoder": ""}, ["--decoder ''", "name of a file"]),
        ({"batch_cfg": "yes"}, ["--batch_cfg yes", "on or off"]),
        ({"zero_terminal_snr": True}, ["--spacing uniform", "--spacing trailing"]),
        (
            {"zero_terminal_snr": True, "sampler": "plms", "spacing": "trailing"},
            ["--sampler plms", "add --sampler ddim"],
        ),
    ],
)
def test_wrong_ones_are_refused_in_a_line_that_says_what_is_expected(wrong, words):
    with pytest.raises(UserError) as caught:
        Txt2ImgSettings(**wrong).validate()
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_what_has_no_effect_is_said_by_name():
    given = {name: ON[name] for name in ("guidance_interval", "guidance_rescale", "batch_cfg")}
    said = " ".join(Txt2ImgSettings(scale=1.0, reuse="1", **given).notices())
    for flag in ("--guidance_interval 0.2:0.8", "--guidance_rescale 0.7", "--batch_cfg off"):
        assert f"{flag} has no effect at --scale 1" in said
    assert "--reuse 1 has no effect" in said
    assert not Txt2ImgSettings(reuse="2", **given).notices()
