"""The program swap as a user meets it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import load_program

from ldm.settings.samplers import SAMPLERS

SCRIPT = "scripts/swap.py"
EDIT = ("--sprompt", "a cat", "--prompt", "a dog", "--is-swap")


@pytest.fixture
def programs(tiny_ckpt, tmp_path, monkeypatch, capsys):
    """Run programs in this process with the tiny model; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    base = ["--ckpt", str(tiny_ckpt), "--device", "cpu", "--ddim_steps", "4"]

    def run(name, *arguments):
        code = load_program(f"scripts/{name}.py").main([*base, *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def swap(programs):
    return lambda *arguments: programs("swap", *arguments)


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def pixels(path):
    return np.asarray(Image.open(path))


def parameters(path):
    return Image.open(path).info["parameters"]


def stop_at_once(asked):
    """Return a function that notes its call and ends the run, as Ctrl-C would."""

    def stop(*given, **_):
        asked.append(given)
        raise KeyboardInterrupt

    return stop


def assert_one_error(result, *hints):
    code, _, err = result
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if line.startswith("swap: error: ")]
    assert all(hint in line for hint in hints), line


def test_targets_are_written_before_sources_and_a_grid_for_each(swap, tmp_path):
    code, _, err = swap(*EDIT)
    folder = tmp_path / "outputs" / "swap-samples"
    assert code == 0, err
    assert files(folder) == [
        "a_cat_src-0000.png",
        "a_dog_tar-0000.png",
        *(f"samples/0000{n}.png" for n in range(4)),
    ]
    said = [parameters(folder / f"samples/0000{n}.png") for n in range(4)]
    assert [text.startswith("a dog\n") for text in said] == [True, True, False, False]
    assert "Source prompt: a cat, Edit: True" in said[0] and "Denoising" not in said[0]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("more", [(), ("--scale", "1"), ("--seed_mode", "per-image")])
def test_the_source_is_the_plain_picture_of_its_prompt_to_the_byte(
    programs, tmp_path, sampler, more
):
    shared = ("--sampler", sampler, "--n_samples", 2, "--n_iter", 2, *more)
    assert programs("swap", *EDIT, *shared, "--outdir", tmp_path / "swap")[0] == 0
    plain = ("--prompt", "a cat", "--outdir", tmp_path / "plain")
    assert programs("txt2img", *plain, *shared)[0] == 0
    for number, source in enumerate((2, 3, 6, 7)):
        ours = tmp_path / "swap" / "samples" / f"0000{source}.png"
        theirs = tmp_path / "plain" / "samples" / f"0000{number}.png"
        assert ours.read_bytes() == theirs.read_bytes()


def test_an_edit_to_the_same_prompt_leaves_the_picture_as_it_is(swap, tmp_path):
    assert swap("--sprompt", "a cat", "--prompt", "a cat", "--is-swap", "--outdir", "o")[0] == 0
    target, source = (pixels(tmp_path / "o" / "samples" / f"0000{n}.png") for n in (0, 2))
    assert np.array_equal(target, source)


def test_without_windows_an_edit_is_the_picture_of_its_prompt(programs, tmp_path):
    closed = ("--cross_replace_steps", 0, "--self_replace_steps", 0)
    assert programs("swap", *EDIT, *closed, "--outdir", "o")[0] == 0
    assert programs("txt2img", "--prompt", "a dog", "--n_samples", 2, "--outdir", "p")[0] == 0
    assert np.array_equal(pixels("o/samples/00000.png"), pixels("p/samples/00000.png"))


def test_an_edit_differs_from_the_source_and_from_a_picture_of_its_own(programs, tmp_path):
    assert programs("swap", *EDIT, "--outdir", "o")[0] == 0
    assert programs("txt2img", "--prompt", "a dog", "--n_samples", 2, "--outdir", "p")[0] == 0
    edited, source = pixels("o/samples/00000.png"), pixels("o/samples/00002.png")
    assert not np.array_equal(edited, source)
    assert not np.array_equal(edited, pixels("p/samples/00000.png"))


def test_only_the_target_is_drawn_without_a_source(programs):
    # The fork reweights token 2 of every plain run; nothing is, unless it is asked for.
    assert programs("swap", "--prompt", "a small red cat", "--outdir", "o")[0] == 0
    plain = ("--prompt", "a small red cat", "--n_samples", 2, "--n_iter", 1, "--outdir", "p")
    assert programs("txt2img", *plain)[0] == 0
    for name in ("00000.png", "00001.png"):
        ours, theirs = (Path(folder, "samples", name).read_bytes() for folder in "op")
        assert ours == theirs
    assert not list(Path("o/samples").glob("00002*"))


def test_weights_hold_for_more_pictures_than_the_fork_has_weights_for(swap):
    # The fork's list has three, and a fourth picture is an IndexError.
    code, _, err = swap(*EDIT, "--n_samples", 4, "--reweight", "dog=3", "--outdir", "o")
    assert code == 0, err
    drawn = [pixels(path) for path in sorted(Path("o/samples").iterdir())]
    assert len(drawn) == 8
    assert swap(*EDIT, "--n_samples", 4, "--outdir", "p")[0] == 0
    plain = [pixels(path) for path in sorted(Path("p/samples").iterdir())]
    same = [np.array_equal(*pair) for pair in zip(drawn, plain, strict=True)]
    assert same == [False] * 4 + [True] * 4  # targets, then sources


def test_without_is_swap_the_prompts_are_drawn_beside_each_other(programs):
    assert programs("swap", "--sprompt", "a cat", "--prompt", "a dog", "--outdir", "o")[0] == 0
    assert programs("txt2img", "--prompt", "a dog", "--n_samples", 2, "--outdir", "p")[0] == 0
    ours, theirs = (Path(folder, "samples", "00000.png").read_bytes() for folder in "op")
    assert ours == theirs


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--seed_mode", "per-image"),
        ("--sampler", "euler_a", "--fixed_code"),
        ("--mode", "refine", "--self_replace_steps", "0.1:0.6"),
        ("--cross_replace_steps", "0.9,dog=0.3,red=0.2:0.8"),
        ("--reweight", "red=2.5,dog=-1", "--negative_prompt", "blue"),
        ("--blend", "cat|dog|red"),
    ],
)
def test_each_picture_of_a_run_is_redrawn_from_its_file(swap, tmp_path, more):
    prompts = (*EDIT, "--also", "a red cat")
    shape = ("--n_samples", 2, "--n_iter", 2, "--H", 16, "--W", 24)
    assert swap(*prompts, *shape, *more, "--outdir", "o")[0] == 0
    for number in (1, 4, 9):
        code, _, err = swap("--from-image", f"o/samples/{number:05d}.png", "--outdir", "again")
        assert code == 0, err
        newest = sorted((tmp_path / "again" / "samples").iterdir())[-1]
        assert newest.read_bytes() == (tmp_path / f"o/samples/{number:05d}.png").read_bytes()


def test_targets_without_a_word_that_has_a_window_are_redrawn_from_their_files(swap):
    flags = ("--also", "a red cat", "--cross_replace_steps", "dog=0.2", "--n_samples", 1)
    assert swap(*EDIT, *flags, "--outdir", "o")[0] == 0
    code, _, err = swap("--from-image", "o/samples/00001.png", "--outdir", "again")
    assert code == 0 and "Edit cross steps" not in err, err
    assert "Edit cross steps: 1.0" in parameters("again/samples/00000.png")
    assert np.array_equal(pixels("again/samples/00000.png"), pixels("o/samples/00001.png"))


@pytest.mark.parametrize("more", [("--also", "a pig"), ("--from-file", "targets.txt")])
def test_further_targets_of_a_saved_edit_are_all_drawn(swap, tmp_path, more):
    (tmp_path / "targets.txt").write_text("a dog\na pig\n", encoding="utf-8")
    assert swap(*EDIT, "--n_samples", 1, "--outdir", "o")[0] == 0
    code, _, err = swap("--from-image", "o/samples/00000.png", *more, "--outdir", "more")
    assert code == 0, err
    said = [parameters(path).split("\n")[0] for path in sorted(Path("more/samples").iterdir())]
    assert said == ["a dog", "a pig", "a cat"]


def test_a_file_holds_several_targets_of_one_source(swap, tmp_path):
    (tmp_path / "targets.txt").write_text("a dog\na red cat\n猫\n", encoding="utf-8")
    flags = ("--sprompt", "a cat", "--is-swap", "--from-file", "targets.txt")
    code, _, err = swap(*flags, "--n_samples", 1, "--prompt", "unused", "--outdir", "o")
    assert code == 0 and "--prompt is not used" in err
    said = [parameters(f"o/samples/0000{n}.png").split("\n")[0] for n in range(4)]
    assert said == ["a dog", "a red cat", "a cat", "a cat"]
    assert "Original prompt: 猫" in parameters("o/samples/00002.png")
    assert "o/猫_tar-0000.png" in [f"o/{name}" for name in files(tmp_path / "o")]


def test_grids_of_prompts_with_braces_are_written(swap, tmp_path):
    assert swap("--prompt", "a {cat} {0}", "--outdir", "o")[0] == 0
    assert any("(cat)" in name for name in files(tmp_path / "o"))


def test_from_a_picture_strength_says_how_much_is_changed(swap, photo):
    drawn = {}
    for strength in (0.25, 1.0):
        flags = ("--init-img", photo, "--strength", strength, "--outdir", f"o{strength}")
        assert swap(*EDIT, *flags)[0] == 0
        drawn[strength] = pixels(f"o{strength}/samples/00000.png").astype(float)
    wanted = pixels(photo)
    near, far = (np.abs(each - wanted).mean() for each in drawn.values())
    assert near < far


@pytest.mark.parametrize(
    "more", [(), ("--blend", "cat|dog"), ("--is_get_attn",), ("--n_samples", 1)]
)
def test_at_strength_0_source_and_target_are_the_encoded_picture(swap, photo, more):
    code, _, err = swap(*EDIT, "--init-img", photo, "--strength", 0, *more, "--outdir", "o")
    assert code == 0, err
    drawn = [pixels(path) for path in sorted(Path("o/samples").iterdir())]
    n = 1 if "--n_samples" in more else 2
    assert len(drawn) == 2 * n and np.array_equal(drawn[:n], drawn[n:])


@pytest.mark.parametrize("side", ["--H", "--W"])
def test_one_side_alone_resizes_the_picture_in_proportion(swap, tmp_path, side):
    Image.new("RGB", (16, 32)).save(tmp_path / "tall.png")
    asked = {"--H": 64, "--W": 32}[side]
    code, _, err = swap(*EDIT, "--init-img", "tall.png", side, asked, "--outdir", "o")
    assert code == 0, err
    assert pixels("o/samples/00000.png").shape == (64, 32, 3)


def test_from_a_picture_the_source_is_that_of_img2img(programs, photo):
    shared = ("--init-img", photo, "--strength", 0.6, "--n_samples", 2, "--scale", 5)
    assert programs("swap", *EDIT, *shared, "--outdir", "o")[0] == 0
    mark = ("--watermark", "reference")
    assert programs("img2img", "--prompt", "a cat", *shared, *mark, "--outdir", "p")[0] == 0
    assert np.array_equal(pixels("o/samples/00002.png"), pixels("p/samples/00000.png"))
    code, _, err = programs("swap", "--from-image", "o/samples/00000.png", "--outdir", "q")
    assert code == 0, err
    assert np.array_equal(pixels("q/samples/00000.png"), pixels("o/samples/00000.png"))


@pytest.mark.parametrize("way", ["ddim", "null-text", "negative-prompt"])
def test_a_real_picture_is_inverted_and_the_error_is_said(swap, photo, way):
    flags = ("--init-img", photo, "--invert", way, "--outdir", "o")
    code, out, err = swap(*EDIT, *flags)
    assert code == 0, err
    assert f"Inverted by {way}: the source's picture has a PSNR of" in out
    assert sorted(p.name for p in Path("o/samples").iterdir()) == [
        "00000.png",
        "00001.png",
    ]
    for number in (0, 1):
        again = swap("--from-image", f"o/samples/0000{number}.png", "--outdir", f"again{number}")
        assert again[0] == 0, again[2]
        first = f"o/samples/0000{number}.png"
        assert np.array_equal(pixels(f"again{number}/samples/00000.png"), pixels(first))


def test_an_inversion_of_no_step_is_refused_in_one_line(swap, photo):
    flags = ("--init-img", photo, "--invert", "ddim", "--strength", 0.1)
    hints = ("--invert ddim was given with --strength 0.1", "none of 4 steps", "raise --strength")
    assert_one_error(swap(*EDIT, *flags), *hints)


def test_null_text_inverts_walks_of_more_steps_than_the_papers_rate_has(swap, photo, monkeypatch):
    asked = []
    monkeypatch.setattr("ldm.models.diffusion.null_text._Search.run", stop_at_once(asked))
    steps = ("--ddim_steps", 101, "--strength", 1, "--spacing", "trailing")
    code, _, err = swap(*EDIT, "--init-img", photo, "--invert", "null-text", *steps)
    assert code == 130 and len(asked) == 1, err


def test_a_mask_keeps_the_rest_of_the_picture_in_source_and_target(swap, photo, tmp_path):
    marked = np.zeros((16, 16), np.uint8)
    marked[:, 8:] = 255
    Image.fromarray(marked).save(tmp_path / "mask.png")
    flags = ("--init-img", photo, "--use_mask", "--init-mask", "mask.png", "--outdir", "o")
    code, _, err = swap(*EDIT, *flags)
    assert code == 0, err
    wanted = pixels(photo)
    for name in ("00000.png", "00002.png"):
        drawn = pixels(f"o/samples/{name}")
        assert np.array_equal(drawn[:, :8], wanted[:, :8])
        assert not np.array_equal(drawn[:, 8:], wanted[:, 8:])


def test_an_edit_is_refused_by_programs_that_do_not_edit(programs):
    assert programs("swap", *EDIT, "--outdir", "o")[0] == 0
    code, _, err = programs("txt2img", "--from-image", "o/samples/00000.png")
    assert code == 2 and "is an edit of another prompt's picture" in err


@pytest.mark.parametrize(
    ("flags", "hints"),
    [
        (("--prompt", "a dog", "--is-swap"), ("--is-swap was given without a source", "--sprompt")),
        ((*EDIT, "--reweight", "dgo=2"), ("'dgo' is not in the prompt", "did you mean 'dog'")),
        ((*EDIT, "--blend", "hat|dog"), ("'hat' is not in the prompt", "did you mean 'cat'")),
        ((*EDIT, "--cross_replace_steps", "0.8,rde=0.1"), ("'rde' is not in the prompt",)),
        ((*EDIT, "--reweight", "dog=much"), ("--reweight 'dog=much' was given",)),
        (
            ("--sprompt", "a cat", "--prompt", "a red cat", "--is-swap", "--mode", "replace"),
            ("has 2 words", "has 3", "refine or auto"),
        ),
        ((*EDIT, "--init-img", "missing.png"), ("missing.png does not exist",)),
        ((*EDIT, "--cross_replace_steps", ""), ("expected a share of the steps from 0 to 1",)),
        ((*EDIT, "--self_replace_steps", ""), ("expected a share of the steps from 0 to 1",)),
        ((*EDIT, "--reweight", ""), ("expected words with numbers",)),
        ((*EDIT, "--blend", ""), ("expected words of the source, a bar",)),
        ((*EDIT, "--self_replace_steps", "2"), ("--self_replace_steps 2 was given",)),
        ((*EDIT, "--mode", "both"), ("--mode both was given",)),
    ],
)
def test_bad_input_gets_one_line_and_nothing_is_written(swap, tmp_path, flags, hints):
    assert_one_error(swap(*flags), *hints)
    assert not (tmp_path / "outputs").exists()


def test_maps_are_written_of_each_prompt_and_change_no_picture(swap, tmp_path):
    assert swap(*EDIT, "--outdir", "plain")[0] == 0
    flags = ("--is_get_attn", "--save_attn_dir", "maps", "--every", 2, "--half")
    code, out, err = swap(*EDIT, *flags, "--outdir", "mapped")
    assert code == 0, err
    assert "attention maps of one step in 2 go to maps" in out
    for picture in (tmp_path / "plain" / "samples").iterdir():
        assert picture.read_bytes() == (tmp_path / "mapped/samples" / picture.name).read_bytes()
    for folder in ("maps", "maps/source"):
        maps = [np.load(path) for path in sorted(Path(folder, "crossatt").iterdir())]
        assert {each.dtype for each in maps} == {np.dtype("float16")}
        assert all(len(each) == 2 and each.shape[-1] == 77 for each in maps)
        assert "prompt" in np.load(f"{folder}/maps.npz")
        assert len(list(Path(folder).glob("panel_*.png"))) == 2
    assert str(np.load("maps/maps.npz")["prompt"]) == "a dog"
    assert str(np.load("maps/source/maps.npz")["prompt"]) == "a cat"


def test_maps_of_one_prompt_are_those_of_the_picture(swap):
    flags = ("--is_get_attn", "--save_attn_dir", "maps", "--n_samples", 1)
    assert swap("--prompt", "a red cat", *flags)[0] == 0
    assert not Path("maps/source").exists()
    assert str(np.load("maps/maps.npz")["prompt"]) == "a red cat"


def test_what_an_interrupted_run_leaves_includes_its_maps(swap, monkeypatch):
    monkeypatch.setattr("ldm.pipelines.attention_maps.MapWriter.take", stop_at_once([]))
    code, _, err = swap(*EDIT, "--is_get_attn", "--save_attn_dir", "maps")
    assert code == 130 and "no picture was written; attention maps: maps (" in err


def test_more_than_two_gigabytes_of_maps_are_refused_before_anything_is_drawn(swap, tmp_path):
    large = ("--H", 512, "--W", 512, "--n_samples", 50, "--ddim_steps", 100)
    assert_one_error(swap(*EDIT, "--is_get_attn", *large), "--every", "GB")
    assert files(tmp_path) == []
