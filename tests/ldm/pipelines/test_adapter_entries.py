"""Pictures record the adapters that drew them: they are drawn again, by these files alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from drawing import draw, drawn, text_settings

from ldm.errors import UserError
from ldm.images.io import save_picture
from ldm.pipelines import adapter_files
from ldm.pipelines.infotext import read_picture
from ldm.settings.generation import Txt2ImgSettings

TAGGED = "a cat <lora:ink:0.5> <lora:gone:1> <lora:ink:1:lbw=OUTALL>"

pytestmark = pytest.mark.usefixtures("at_shelves")


def everything():
    return {
        "prompt": "a sunny cat <lora:hat:0.5>",
        "negative_prompt": "dull",
        "lora": ("ink:0.5:0.25",),
        "embedding": ("sunny", "rainy"),
        "control": ("canny=net:photo.png:0.5:0:0.75", "reference=other.png:1:0:0.5"),
        "control_mode": "prompt",
    }


def saved(pipeline, path, **changes):
    pictures, _ = draw(pipeline, text_settings(n_samples=1, n_iter=2, **changes))
    save_picture(pictures[1].pixels, path, metadata=pictures[1].parameters)
    return pictures[1]


def redrawn(pipeline, path, **given):
    values, place = read_picture(str(path), Txt2ImgSettings, given).rerun(given)
    return next(pipeline.generate(Txt2ImgSettings(**values), place=place))


def test_a_picture_with_everything_is_drawn_again_to_the_bit(pipeline, tmp_path):
    picture = saved(pipeline, tmp_path / "all.png", **everything())
    again = redrawn(pipeline, tmp_path / "all.png")
    assert np.array_equal(again.pixels, picture.pixels)
    recorded = read_picture(str(tmp_path / "all.png"), Txt2ImgSettings)
    assert not recorded.notices


def test_other_programs_find_their_own_entries(pipeline, tmp_path):
    text = saved(pipeline, tmp_path / "all.png", **everything()).parameters
    hashes = {
        name: adapter_files.lora_hashes(Path(f"models/lora/{name}.safetensors"))[0]
        for name in ("ink", "styles/hat")
    }
    assert f'Lora hashes: "ink: {hashes["ink"]}, hat: {hashes["styles/hat"]}"' in text
    sunny = adapter_files.embedding_hash(Path("models/embeddings/sunny.pt"))
    assert f'TI hashes: "sunny: {sunny}' in text
    assert 'ControlNet 0: "Module: canny, Model: net [' in text
    assert "Weight: 0.5" in text and "Control Mode: My prompt is more important" in text


@pytest.mark.parametrize(
    ("moved", "flag"),
    [
        ("models/lora/ink.safetensors", "--lora"),
        ("models/lora/styles/hat.safetensors", "hat"),
        ("models/embeddings/sunny.pt", "--embedding"),
        ("models/controlnet/net.safetensors", "--control"),
        ("photo.png", "--control"),
    ],
)
def test_a_file_that_is_gone_or_changed_is_told_when_our_picture_is_redrawn(
    moved, flag, pipeline, tmp_path
):
    saved(pipeline, tmp_path / "all.png", **everything())
    kept = shutil.move(moved, tmp_path / "kept")
    try:
        with pytest.raises(UserError, match=flag) as gone:
            redrawn(pipeline, tmp_path / "all.png")
        Path(moved).write_bytes(b"another")
        with pytest.raises(UserError, match="it is another; put the file back"):
            redrawn(pipeline, tmp_path / "all.png")
    finally:
        shutil.move(kept, moved)
    assert "\n" not in str(gone.value)


def test_a_name_with_a_dot_in_it_is_found_again(pipeline, tmp_path):
    for source, name in (
        ("embeddings/sunny.pt", "sunny-v1.5"),
        ("lora/ink.safetensors", "ink-v1.5"),
    ):
        source = Path("models", source)
        shutil.copy(source, source.with_name(name + source.suffix))
    changes = {"prompt": "a sunny-v1.5 cat", "lora": ("ink-v1.5",), "embedding": ("sunny-v1.5",)}
    picture = saved(pipeline, tmp_path / "dot.png", **changes)
    assert 'Lora hashes: "ink-v1.5: ' in picture.parameters
    assert 'TI hashes: "sunny-v1.5: ' in picture.parameters
    assert np.array_equal(redrawn(pipeline, tmp_path / "dot.png").pixels, picture.pixels)


def by_a1111(path, prompt, *entries):
    text = f"{prompt}\nSteps: 4, Sampler: DDIM, CFG scale: 7.5, Seed: 7, Size: 16x16"
    text = ", ".join([text, *entries, "Version: v1.10.1"])
    path.unlink(missing_ok=True)
    save_picture(np.zeros((16, 16, 3), np.uint8), path, metadata=text)
    return path


def test_a_picture_of_another_program_is_drawn_with_its_loras_and_embeddings(pipeline, tmp_path):
    ink = adapter_files.lora_hashes(Path("models/lora/ink.safetensors"))[0]
    sunny = adapter_files.embedding_hash(Path("models/embeddings/sunny.pt"))
    entries = f'Lora hashes: "ink: {ink}"', f'TI hashes: "sunny: {sunny}"'
    path = by_a1111(tmp_path / "web.png", "a sunny cat <lora:ink:0.5>", *entries)
    recorded = read_picture(str(path), Txt2ImgSettings)
    assert not any("ink" in text or "sunny" in text for text in recorded.notices)
    expected = drawn(
        pipeline, prompt="a sunny cat ", seed=7, lora=("ink:0.5",), prompt_syntax="a1111"
    )
    assert np.array_equal(redrawn(pipeline, path).pixels, expected[0])


def test_a_picture_of_another_program_says_what_is_missing_or_another(pipeline, tmp_path):
    entries = 'Lora hashes: "ink: 0123456789ab, gone: 1"', 'TI hashes: "nowhere: 2"'
    path = by_a1111(tmp_path / "web.png", TAGGED, *entries)
    notices = " ".join(read_picture(str(path), Txt2ImgSettings).notices)
    assert "'ink' has the hash '0123456789ab'" in notices
    assert "'<lora:gone:1>' is no file" in notices
    assert "'<lora:ink:1:lbw=OUTALL>' in a prompt has more than is known" in notices
    assert "its embedding 'nowhere' is not in models/embeddings" in notices
    expected = drawn(pipeline, prompt="a cat  ", seed=7, lora=("ink:0.5",), prompt_syntax="a1111")
    assert np.array_equal(redrawn(pipeline, path).pixels, expected[0])


def test_a_stranger_s_picture_opens_no_file_that_it_was_not_drawn_with(tmp_path):
    other = shutil.copy("models/lora/ink.safetensors", tmp_path / "other.safetensors")
    forged = f'LoRA: ["{other}:1"]'
    path = by_a1111(tmp_path / "web.png", "a cat", forged)
    with pytest.raises(UserError, match="it is another"):
        read_picture(str(path), Txt2ImgSettings)
    for entry in ('LoRA: ["/etc/passwd:1"]', r'LoRA: ["//host/share/x.pt:1"]', "LoRA: {1"):
        path = by_a1111(tmp_path / "web.png", "a cat", entry)
        try:
            recorded = read_picture(str(path), Txt2ImgSettings)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert not recorded.values.get("lora")


def test_flags_go_before_what_a_picture_records(pipeline, tmp_path):
    saved(pipeline, tmp_path / "all.png", **everything())
    changes = {"lora": (), "control": (), "embedding": (), "prompt": "a cat"}
    recorded = read_picture(str(tmp_path / "all.png"), Txt2ImgSettings, changes)
    values, _ = recorded.rerun(changes)
    assert not (values["lora"] or values["control"] or values["embedding"])
