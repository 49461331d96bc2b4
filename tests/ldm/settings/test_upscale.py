"""What can be asked of super-resolution, and what is told when it cannot."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.settings.command_line import parse
from ldm.settings.upscale import UpscaleProgramSettings, UpscaleSettings


def test_the_defaults_are_the_references():
    settings = UpscaleSettings()
    settings.validate()
    assert (settings.steps, settings.eta, settings.patch) == (100, 1.0, 128)


@pytest.mark.parametrize(
    ("values", "multiple", "words"),
    [
        ({"steps": 0}, 1, "--steps 0 was given; expected a whole number from 1 to"),
        ({"eta": 1.5}, 1, "--eta 1.5 was given; expected a number from 0.0 to 1.0"),
        ({"seed": -1}, 1, "--seed -1 was given"),
        ({"n_samples": 0}, 1, "--n_samples 0 was given"),
        ({"tile": -2}, 1, "--tile -2 was given"),
        ({"tile": 3}, 1, "--tile 3 was given; expected 0 or a multiple of 2"),
        ({"tile": 12}, 4, "--tile 12 was given; expected 0 or a multiple of 8"),
    ],
)
def test_what_is_out_of_range_is_told_in_one_line(values, multiple, words):
    with pytest.raises(UserError) as caught:
        UpscaleSettings(**values).validate(multiple)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_program_takes_several_pictures():
    given = parse(UpscaleProgramSettings, "", ["--init-img", "a.png", "b.png", "--steps", "3"])
    assert given == {"init_img": ("a.png", "b.png"), "steps": 3}
    UpscaleProgramSettings(**given).validate()


def test_a_network_has_tiles_of_its_own_and_no_use_for_what_diffusion_takes():
    plain = {"init_img": ("a.png",), "model": "net"}
    settings = UpscaleProgramSettings(**plain)
    settings.validate()
    assert settings.tiling == (256, 32) and settings.unused == []
    assert UpscaleProgramSettings(**plain, tile=0, overlap=8).tiling == (0, 8)
    assert UpscaleProgramSettings(**plain, eta=0.5, use_ema=True).unused == ["--eta", "--use_ema"]
    assert UpscaleProgramSettings(init_img=("a.png",), eta=0.5).unused == []
