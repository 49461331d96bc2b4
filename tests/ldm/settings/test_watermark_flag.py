"""The flag ``--watermark`` of every program that writes pictures."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.retrieval.settings import RetrievalSettings
from ldm.settings.command_line import parse
from ldm.settings.generation import WATERMARKS, Img2ImgSettings, Txt2ImgSettings
from ldm.settings.inpaint import InpaintProgramSettings, LowMemoryInpaintSettings
from ldm.settings.low_memory import LowMemoryImg2ImgSettings, LowMemoryTxt2ImgSettings
from ldm.settings.option import options_of
from ldm.settings.samples import SampleProgramSettings
from ldm.settings.upscale import UpscaleProgramSettings
from optimizedSD.by_diffusers.settings import DiffusersSettings

DEFAULTS = {
    Txt2ImgSettings: "reference",
    Img2ImgSettings: "gentle",
    InpaintProgramSettings: "gentle",
    RetrievalSettings: "gentle",
    LowMemoryTxt2ImgSettings: "gentle",
    LowMemoryImg2ImgSettings: "gentle",
    LowMemoryInpaintSettings: "gentle",
    DiffusersSettings: "gentle",
    SampleProgramSettings: "off",
    UpscaleProgramSettings: "off",
}


def given(schema, kind):
    required = ["--init-img", "a.png"] if schema is UpscaleProgramSettings else []
    return parse(schema, "", [*required, "--watermark", kind])


@pytest.mark.parametrize("schema", DEFAULTS)
def test_text_to_image_keeps_the_references_watermark_and_others_get_none_that_is_seen(schema):
    (field,) = [each for each in schema.__dataclass_fields__.values() if each.name == "watermark"]
    assert field.default == DEFAULTS[schema]


@pytest.mark.parametrize("kind", WATERMARKS)
@pytest.mark.parametrize("schema", DEFAULTS)
def test_every_program_offers_the_same_kinds(schema, kind):
    assert given(schema, kind)["watermark"] == kind
    (offered,) = [each.offered for each in options_of(schema) if each.name == "watermark"]
    assert offered == WATERMARKS


@pytest.mark.parametrize("schema", DEFAULTS)
def test_another_kind_is_refused_with_those_there_are(schema):
    with pytest.raises(UserError, match="expected reference, gentle or off"):
        given(schema, "soft")
