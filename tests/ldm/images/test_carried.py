"""What a picture's file says is carried over, and what does not suit the new picture is left."""

from __future__ import annotations

import io

from PIL import ExifTags, Image

from ldm.images.carried import Carried
from ldm.images.embed import save_options


def saved(image=None, form="PNG", **options):
    buffer = io.BytesIO()
    (image or Image.new("RGB", (4, 4))).save(buffer, form, **options)
    opened = Image.open(buffer)
    opened.load()
    return opened


def again(carried, parameters=None):
    return saved(**carried.png_options(parameters))


def test_a_file_that_says_nothing_says_nothing_afterwards():
    carried = Carried.of(saved())
    assert not carried.synthetic and carried.with_entries({"Seed": 1}) is None
    assert again(carried).info == {}


def test_a_recipe_gets_further_entries_and_keeps_its_own():
    recipe = "a cat, (hat:1.2)\nNegative prompt: dog\nSteps: 3, Sampler: DDIM, Seed: 1"
    carried = Carried.of(saved(form="JPEG", **save_options("JPEG", recipe)))
    assert carried.synthetic
    assert (
        carried.with_entries({"Postprocess upscaler": "x"}) == f"{recipe}, Postprocess upscaler: x"
    )
    assert again(carried, "new").info["parameters"] == "new"


def test_a_text_that_is_no_recipe_is_kept_as_it_is():
    carried = Carried.of(saved(**save_options("PNG", "just words")))
    assert carried.with_entries({"Postprocess upscaler": "x"}) == "just words"


def test_a_profile_of_other_colours_is_not_given_to_rgb():
    cmyk = saved(Image.new("CMYK", (4, 4)), "TIFF", icc_profile=b"of inks")
    assert "icc_profile" not in Carried.of(cmyk).rest
    assert Carried.of(saved(icc_profile=b"of light")).rest["icc_profile"] == b"of light"


def test_an_orientation_that_was_applied_is_not_said_again():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    image = saved(form="JPEG", exif=exif)
    assert "exif" not in Carried.of(image).rest
    assert image.getexif()[ExifTags.Base.Orientation] == 8  # which is not applied yet


def test_broken_exif_data_cost_nobody_a_picture():
    image = saved()
    image.info["exif"] = b"Exif\0\0MM\0*\xff\xff\xff\xff"
    made = again(Carried.of(image))
    assert made.size == image.size and not made.getexif()
