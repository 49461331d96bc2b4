"""Pictures between disk, memory and tensors."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.errors import UserError
from ldm.images import io, pixels
from ldm.images.opening import allow_pixels


def picture(height=8, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def every_float16(low, high):
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = values[np.isfinite(values)]
    values = values[(values >= low) & (values <= high)]
    return np.resize(values, -(-len(values) // 3) * 3).reshape(1, 3, 1, -1)


def test_float16_pictures_are_converted_in_float16_for_every_value_there_is():
    x = every_float16(-1.5, 1.5)
    one, two = np.float16(1), np.float16(2)
    unit = np.clip((x + one) / two, np.float16(0), one)
    expected = (np.float16(255) * unit).astype(np.uint8).transpose(0, 2, 3, 1)

    result = io.to_uint8(torch.from_numpy(x))

    assert np.array_equal(result, expected)
    # The dtype is not a detail: in float32 other pixels come out.
    assert not np.array_equal(io.to_uint8(torch.from_numpy(x).float()), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wider_pictures_are_converted_in_their_own_precision(dtype):
    x = np.random.default_rng(1).uniform(-1.2, 1.2, (2, 3, 40, 40)).astype(dtype)
    expected = (255.0 * np.clip((x + 1) / 2, 0, 1)).astype(np.uint8).transpose(0, 2, 3, 1)
    assert expected.dtype == np.uint8
    assert np.array_equal(io.to_uint8(torch.from_numpy(x)), expected)


def test_bfloat16_is_converted_as_float32():
    x = torch.randn(1, 3, 30, 30, generator=torch.Generator().manual_seed(3)).bfloat16()
    assert np.array_equal(io.to_uint8(x), io.to_uint8(x.float()))


def test_saved_pictures_truncate_and_the_checkers_pictures_round():
    x = torch.full((1, 3, 1, 1), 2 * 100.7 / 255 - 1)
    assert io.to_uint8(x).ravel().tolist() == [100] * 3
    assert io.to_uint8(x, rounded=True).ravel().tolist() == [101] * 3


def test_values_beyond_the_range_are_clamped_and_the_input_stays():
    x = torch.tensor([-7.0, 0.0, 7.0]).reshape(1, 3, 1, 1)
    before = x.clone()
    assert io.to_uint8(x).ravel().tolist() == [0, 127, 255]
    assert torch.equal(x, before)


def test_pictures_that_need_gradients_can_be_converted():
    assert io.to_uint8(torch.zeros(1, 3, 2, 2, requires_grad=True)).shape == (1, 2, 2, 3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_picture_that_is_not_finite_is_an_error_that_names_it_and_the_way_out(bad):
    x = torch.zeros(3, 3, 4, 4)
    x[1, 0, 0, 0] = bad
    with pytest.raises(UserError, match=r"picture 2 of 3 .*compute in float32") as caught:
        io.to_uint8(x)
    assert "\n" not in str(caught.value)


def test_latents_are_named_when_they_are_what_is_not_finite():
    with pytest.raises(UserError, match=r"latent 1, 2 of 2 .*100%"):
        io.check_finite(torch.full((2, 4, 8, 8), float("nan")), "latent")
    io.check_finite(torch.zeros(2, 4, 8, 8), "latent")


def test_a_batch_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 4, 8, 8\)"):
        io.to_uint8(torch.zeros(1, 4, 8, 8))


def test_a_picture_becomes_a_tensor_by_the_references_arithmetic():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    x = io.to_tensor(Image.fromarray(levels))
    expected = 2.0 * (levels.astype(np.float32) / 255.0) - 1.0
    assert x.shape == (1, 3, 16, 16) and x.dtype == torch.float32
    assert np.array_equal(x[0].permute(1, 2, 0).numpy(), expected)


def test_every_level_survives_the_way_to_a_tensor_and_back_when_rounded():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    back = io.to_uint8(io.to_tensor(Image.fromarray(levels)), rounded=True)
    assert np.array_equal(back[0], levels)


@pytest.mark.parametrize(
    ("size", "expected", "changed"),
    [
        ((512, 512), (512, 512), False),
        ((544, 575), (512, 512), True),
        ((640, 701), (640, 640), True),
        ((10, 200), (64, 192), True),
    ],
)
def test_sizes_go_down_to_multiples_of_64_and_never_to_nothing(size, expected, changed):
    resized, told = io.fit_to_multiple(Image.new("RGB", size))
    assert resized.size == expected
    assert told is changed


def test_resizing_is_lanczos():
    image = Image.fromarray(picture(100, 100))
    resized, _ = io.fit_to_multiple(image)
    assert resized.tobytes() == image.resize((64, 64), Image.Resampling.LANCZOS).tobytes()


def test_a_phone_photo_is_loaded_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    Image.fromarray(picture(4, 9)).save(tmp_path / "a.jpg", exif=exif)
    assert io.load_image(tmp_path / "a.jpg").size == (4, 9)


def test_transparency_is_dropped_as_in_the_reference(tmp_path):
    Image.new("RGBA", (3, 3), (10, 20, 30, 0)).save(tmp_path / "a.png")
    image = io.load_image(tmp_path / "a.png")
    assert image.mode == "RGB"
    assert image.getpixel((1, 1)) == (10, 20, 30)


def test_sixteen_bit_greyscale_keeps_its_tones(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    loaded = np.asarray(io.load_image(tmp_path / "a.png"))
    assert np.abs(loaded[..., 0].astype(int) - ramp // 257).max() == 0
    assert loaded[..., 1].max() == 255 and loaded[..., 1].min() == 0


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
def test_pictures_of_any_mode_become_rgb(tmp_path, mode):
    Image.new(mode, (5, 4)).save(tmp_path / "a.tiff")
    assert io.load_image(tmp_path / "a.tiff").mode == "RGB"


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "truncated", "empty"])
def test_what_is_no_readable_picture_is_one_line_with_its_path(tmp_path, kind):
    path = tmp_path / "sketch.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("no picture\n" * 5)
    elif kind == "truncated":
        Image.fromarray(picture(64, 64)).save(path)
        path.write_bytes(path.read_bytes()[:3000])
    elif kind == "empty":
        path.touch()
    with pytest.raises(UserError, match=r"sketch\.png") as caught:
        io.load_image(path)
    assert "\n" not in str(caught.value)


def test_a_picture_with_more_pixels_than_allowed_is_refused_with_the_flag_that_allows_more(
    tmp_path, monkeypatch
):
    path = tmp_path / "bomb.png"
    Image.new("1", (300, 300)).save(path)
    monkeypatch.setenv("LDM_MAX_PIXELS", "89999")
    with pytest.raises(UserError, match=r"bomb\.png is too large \(300x300.* --max_pixels"):
        io.load_image(path)
    allow_pixels(90_000)
    assert io.load_image(path).size == (300, 300)


def test_who_allows_more_pixels_than_pillow_is_not_held_up_by_it(tmp_path, monkeypatch):
    Image.new("1", (300, 300)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert io.load_image(tmp_path / "large.png").size == (300, 300)


def test_a_large_picture_is_read_without_a_warning_of_pillows(tmp_path, monkeypatch, recwarn):
    Image.new("1", (300, 300)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60_000)
    assert io.load_image(tmp_path / "large.png").size == (300, 300)
    assert not recwarn.list


def test_png_keeps_every_pixel(tmp_path):
    path = io.save_picture(picture(20, 30), tmp_path / "new" / "a.png")
    assert np.array_equal(np.asarray(Image.open(path)), picture(20, 30))


def test_jpeg_is_jpeg_without_chroma_subsampling(tmp_path):
    path = io.save_picture(picture(20, 30), tmp_path / "a.jpg")
    with Image.open(path) as image:
        assert image.format == "JPEG"
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3


def test_what_a_reader_of_the_file_sees_is_known_beforehand(tmp_path):
    for name in ("png", "jpg"):
        path = io.save_picture(picture(20, 30), tmp_path / f"a.{name}", metadata="x")
        assert np.array_equal(np.asarray(Image.open(path)), io.after_saving(picture(20, 30), name))


def test_an_existing_file_is_never_replaced(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    with pytest.raises(UserError, match="already exists"):
        io.save_picture(picture(), path)
    assert path.read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_file_system_without_hard_links_is_served_as_well(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    io.save_picture(picture(), tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture())
    with pytest.raises(UserError, match="already exists"):
        io.save_picture(picture(seed=1), tmp_path / "a.png")
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_failure_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    def disk_full(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", disk_full)
    with pytest.raises(KeyboardInterrupt):
        io.save_picture(picture(), tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(UserError, match=r"cannot be written .*output folder"):
        io.save_picture(picture(), tmp_path / "taken" / "a.png")


def test_saved_files_have_the_permissions_that_the_user_set(tmp_path):
    old = os.umask(0o027)
    try:
        path = io.save_picture(picture(), tmp_path / "a.png")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["a.bmp", "a"])
def test_an_unknown_format_is_an_error_that_lists_the_known(tmp_path, name):
    with pytest.raises(UserError, match="png, jpg, jpeg"):
        io.save_picture(picture(), tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_a_picture_too_large_for_jpeg_is_one_line():
    with pytest.raises(UserError, match="--format png"):
        io.encode_picture(np.zeros((2, 66000, 3), np.uint8), "jpg")


def test_pictures_that_are_not_bytes_are_refused():
    with pytest.raises(ValueError, match="float32"):
        io.encode_picture(np.zeros((2, 2, 3), np.float32), "png")


@pytest.mark.parametrize(
    ("names", "pattern", "expected"),
    [
        ([], "{:05d}", 0),
        (["00000.png", "00007.png"], "{:05d}.png", 8),
        (["00000.png", "00007.jpg"], "{:05d}.png", 8),
        (["100000.png"], "{:05d}", 100001),
        (["7.png", "00003-edit.png", "copy of 00009.png", "grid-0004.png"], "{:05d}", 0),
        (["grid-0004.png", "samples"], "grid-{:04d}.png", 5),
        ([".00012.png.0a1b.part", "００００5.png"], "{:05d}", 0),
    ],
)
def test_numbers_continue_from_the_highest_name_in_use(tmp_path, names, pattern, expected):
    for name in names:
        (tmp_path / name).touch()
    assert io.next_index(tmp_path, pattern) == expected


def test_numbering_starts_at_0_in_a_folder_that_is_not_there(tmp_path):
    assert io.next_index(tmp_path / "none", "{:05d}") == 0


def test_a_deleted_file_does_not_lead_to_an_overwrite(tmp_path):
    paths = [io.save_numbered(picture(), tmp_path, "{:05d}")[0] for _ in range(3)]
    paths[0].unlink()
    path, number = io.save_numbered(picture(), tmp_path, "{:05d}")
    assert (path.name, number) == ("00003.png", 3)


def test_a_number_that_is_taken_is_passed_over(tmp_path):
    (tmp_path / "00004.png").touch()
    path, number = io.save_numbered(picture(), tmp_path, "{:05d}", number=4)
    assert (path.name, number) == ("00005.png", 5)


def test_several_writers_share_a_folder_without_losing_a_picture(tmp_path):
    def save(seed):
        return io.save_numbered(picture(seed=seed), tmp_path, "{:05d}")[0]

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(save, range(40)))
    assert len(set(paths)) == 40
    for seed, path in enumerate(paths):
        assert np.array_equal(np.asarray(Image.open(path)), picture(seed=seed))


@pytest.mark.parametrize("step", [(pixels, "open_pixels"), (io, "upright_eight_bit")])
def test_a_picture_that_the_memory_does_not_hold_is_one_line(tmp_path, monkeypatch, step):
    def full(*_):
        raise MemoryError

    path = io.save_picture(picture(), tmp_path / "a.png")
    monkeypatch.setattr(*step, full)
    with pytest.raises(UserError, match=r"a\.png takes more memory than there is; expected"):
        io.load_image(path)
