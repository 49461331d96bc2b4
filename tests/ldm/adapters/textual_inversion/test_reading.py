"""Reading embeddings: every format, by whichever name; and what is refused, in one line."""

from __future__ import annotations

from pathlib import Path

import embedding_files as files
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ldm.adapters.textual_inversion import read_embedding, write_embedding
from ldm.errors import UserError

WRITERS = {
    "a1111.pt": (files.write_a1111, "AUTOMATIC1111"),
    "first.pt": (files.write_first, "AUTOMATIC1111"),
    "diffusers.safetensors": (files.write_diffusers, "diffusers"),
    "diffusers.bin": (files.write_diffusers, "diffusers"),
    "kohya.safetensors": (files.write_kohya, "kohya"),
    "text.png": (files.write_text_picture, "picture"),
    "pixels.png": (files.write_pixel_picture, "picture"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_its_vectors_under_its_file_s_name(name, tmp_path):
    write, form = WRITERS[name]
    values = files.vectors()
    found = read_embedding(write(tmp_path / name, values))
    assert torch.equal(found.vectors, values)
    assert (found.name, found.report.form) == (Path(name).stem, form)
    assert "2 vectors" in found.report.summary()
    assert not found.report.warnings()


def test_one_vector_without_its_axis_is_one(tmp_path):
    path = files.write_diffusers(tmp_path / "a.bin", files.vectors(1)[0])
    assert read_embedding(path).vectors.shape == (1, 32)


def test_a_placeholder_of_diffusers_and_a_picture_s_own_name_call_it_too(tmp_path):
    toy = files.write_diffusers(tmp_path / "learned_embeds.bin", files.vectors())
    assert read_embedding(toy).triggers == ("learned_embeds", "<cat-toy>")
    picture = files.write_text_picture(tmp_path / "x.png", files.vectors(), name="Sunny")
    assert read_embedding(picture).triggers == ("x", "Sunny")


def test_the_base_is_told_by_the_width(tmp_path):
    for width, base in ((768, "v1"), (1024, "v2"), (320, "models of context width 320")):
        path = files.write_a1111(tmp_path / "a.pt", files.vectors(3, width))
        assert read_embedding(path).report.base == base


def test_of_several_words_one_is_chosen_by_its_name(tmp_path):
    values = files.vectors()
    torch.save({"<a>": values[:1], "<b>": values[1:]}, tmp_path / "two.bin")
    assert torch.equal(read_embedding(tmp_path / "two.bin", "<b>").vectors, values[1:])
    with pytest.raises(UserError, match=r"holds '<a>', '<b>'; expected an embedding of one word"):
        read_embedding(tmp_path / "two.bin")


def test_keys_that_nothing_is_made_of_are_named(tmp_path):
    save_file({"emb_params": files.vectors(), "extra": files.vectors()}, tmp_path / "k.safetensors")
    assert "'extra'" in read_embedding(tmp_path / "k.safetensors").report.warnings()[0]


def save(content, suffix=".pt"):
    def write(folder: Path) -> Path:
        torch.save(content, folder / f"bad{suffix}")
        return folder / f"bad{suffix}"

    return write


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('run')",)


def plain_picture(folder):
    Image.new("RGB", (20, 20), (9, 9, 9)).save(folder / "bad.png")
    return folder / "bad.png"


def half_picture(folder):
    path = files.write_pixel_picture(folder / "bad.png", files.vectors())
    with Image.open(path) as image:
        pixels = image.convert("RGB")
    pixels.putpixel((6, 6), (0x5F, 0x50, 0x51))
    pixels.putpixel((7, 7), (0x50, 0x5F, 0x51))
    pixels.putpixel((4, 3), (0x5F, 0x5F, 0x5F))
    pixels.save(path)
    return path


def cut(folder):
    path = files.write_a1111(folder / "bad.pt", files.vectors())
    path.write_bytes(path.read_bytes()[:700])
    return path


BAD = {
    "missing": (lambda folder: folder / "no.pt", "expected an embedding"),
    "evil": (save({"string_to_param": {"*": Evil()}}), "asks to run"),
    "cut": (cut, "cut short or damaged"),
    "nothing": (save({"string_to_param": {}}), "holds no tensor"),
    "a list": (save([files.vectors()]), "holds no dict"),
    "whole numbers": (save({"a": torch.zeros(2, 32, dtype=torch.int64)}), "type int64"),
    "an axis more": (save({"a": files.vectors()[None]}), r"shape \(1, 2, 32\)"),
    "empty": (save({"a": torch.zeros(0, 32)}), r"shape \(0, 32\)"),
    "not finite": (save({"a": files.vectors() / 0}), "not finite"),
    "a checkpoint": (save({f"model.{n}": files.vectors() for n in range(30)}), "and 22 more"),
    "a plain picture": (plain_picture, "holds no embedding"),
    "a damaged picture": (half_picture, "damaged embedding"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_malformed_file_is_refused_in_one_line(kind, tmp_path):
    write, said = BAD[kind]
    path = write(tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        read_embedding(path)
    assert "\n" not in str(caught.value)
    assert path.stem in str(caught.value)


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("a1111", "w.pt"),
        ("diffusers", "w.safetensors"),
        ("diffusers", "w.bin"),
        ("kohya", "w.safetensors"),
    ],
)
def test_what_is_written_is_read_back_to_the_bit(form, name, tmp_path):
    found = read_embedding(files.write_kohya(tmp_path / "orig.safetensors", files.vectors(3)))
    again = read_embedding(write_embedding(found, tmp_path / name, form))
    assert torch.equal(again.vectors, found.vectors)
    assert again.triggers == (("w", "orig") if form == "diffusers" else ("w",))


def test_an_unknown_format_and_a_wrong_ending_are_refused(tmp_path):
    found = read_embedding(files.write_kohya(tmp_path / "k.safetensors", files.vectors()))
    with pytest.raises(UserError, match="expected one of a1111, diffusers, kohya"):
        write_embedding(found, tmp_path / "x.pt", "comfy")
    with pytest.raises(UserError, match="expected .safetensors or .bin"):
        write_embedding(found, tmp_path / "x.pt", "diffusers")


def test_a_word_inside_a_file_calls_it_but_not_the_name_in_the_web_uis_pt(tmp_path):
    save_file({"<my-cat>": torch.ones(1, 8)}, tmp_path / "cat.safetensors")
    assert read_embedding(tmp_path / "cat.safetensors").triggers == ("cat", "<my-cat>")
    table = {"string_to_param": {"*": torch.ones(1, 8)}, "name": "tom"}
    torch.save(table, tmp_path / "cat.pt")
    assert read_embedding(tmp_path / "cat.pt").triggers == ("cat",)
