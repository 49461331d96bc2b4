"""The program inpaint as a user meets it: files, exit codes, and what it says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from running import ROOT, load_program, run_program
from tiny_inpainting import SIGHTED, TEXTLESS, write_inpainting_model

from ldm.pipelines.pipeline import Pipeline

SCRIPT = "scripts/inpaint.py"
STEPS = ("--steps", 4, "--device", "cpu")
TEXT = ("--prompt", "a cat")


@pytest.fixture(scope="session")
def models(tmp_path_factory, tiny_ckpt):
    """Paths of a tiny checkpoint of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    return {
        "text": tiny_ckpt,
        "sighted": write_inpainting_model(folder / "sighted", SIGHTED),
        "textless": write_inpainting_model(folder / "textless", TEXTLESS),
    }


@pytest.fixture
def inpaint(models, tmp_path, monkeypatch, capsys):
    """Run the program in this process with a tiny model; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    program = load_program(SCRIPT)

    def run(kind, *arguments):
        given = ["--ckpt", models[kind], *STEPS, *arguments]
        code = program.main([str(word) for word in given])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def hole(size):
    """Return a mask with about a ninth of a picture marked."""
    width, height = size
    marked = np.zeros((height, width), np.uint8)
    marked[height // 3 : 2 * height // 3 + 1, width // 3 : 2 * width // 3 + 1] = 255
    return marked


def put_pair(folder, name, size=(19, 14), seed=0, ending=".png"):
    """Write a picture and its mask; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture, mask = folder / f"{name}{ending}", folder / f"{name}_mask.png"
    Image.fromarray(noise).save(picture)
    Image.fromarray(hole(size)).save(mask)
    return picture, mask


@pytest.fixture
def folder(tmp_path):
    for seed, (name, size) in enumerate((("b", (19, 14)), ("a", (8, 8)), ("c d", (5, 33)))):
        put_pair(tmp_path / "in", name, size, seed)
    return tmp_path / "in"


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def assert_one_error(result, *hints):
    """Exit code 2, and one line on stderr that says what to do."""
    code, _, err = result
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if not line.startswith("warning:")]
    assert line.startswith("inpaint: error: "), err
    for hint in hints:
        assert hint in line


def assert_repainted(picture, mask, painted):
    """What the mask keeps is the picture's to the bit, what it marks is not."""
    original, drawn, kept = pixels(picture), pixels(painted), pixels(mask)[..., 0] < 128
    assert drawn.shape == original.shape
    assert np.array_equal(drawn[kept], original[kept])
    assert not np.array_equal(drawn[~kept], original[~kept])


# --- a folder ---


@pytest.mark.parametrize(
    ("kind", "words"),
    [("textless", ()), ("text", TEXT), ("sighted", TEXT), ("sighted", ["--prompt", ""])],
)
def test_each_pair_of_a_folder_becomes_a_picture_of_its_name(
    inpaint, folder, tmp_path, kind, words
):
    code, out, err = inpaint(kind, *words, "--indir", folder, "--outdir", "out")
    assert code == 0, err
    assert files(tmp_path / "out") == ["a.png", "b.png", "c d.png"]
    for name in ("a", "b", "c d"):
        ours = tmp_path / "out" / f"{name}.png"
        assert_repainted(folder / f"{name}.png", folder / f"{name}_mask.png", ours)
        text = Image.open(ours).info["parameters"]
        assert "Steps: 4" in text and "Seed: 42" in text and f"{name}_mask.png" in text
    channels = {"textless": 7, "sighted": 9, "text": 4}[kind]
    assert f"({channels} input channels)" in out
    steps = 9 if kind == "text" else 12  # strength 0.75
    assert f"{steps}/{steps}" in err and "pictures 3/3" in err


def test_a_picture_does_not_depend_on_its_neighbours(inpaint, folder, tmp_path):
    assert inpaint("textless", "--indir", folder, "--outdir", "all")[0] == 0
    for name in ("a.png", "a_mask.png"):
        (folder / name).unlink()
    assert inpaint("textless", "--indir", folder, "--outdir", "some")[0] == 0
    assert np.array_equal(pixels(tmp_path / "all" / "b.png"), pixels(tmp_path / "some" / "b.png"))


def test_another_seed_paints_something_else(inpaint, folder, tmp_path):
    for seed in (1, 2):
        assert inpaint("textless", "--indir", folder, "--outdir", seed, "--seed", seed)[0] == 0
    assert not np.array_equal(pixels(tmp_path / "1" / "b.png"), pixels(tmp_path / "2" / "b.png"))


def test_several_pictures_of_a_pair_are_numbered(inpaint, folder, tmp_path):
    run = ("--indir", folder, "--outdir", "out", "--n_samples", 2, "--n_iter", 2)
    assert inpaint("text", *TEXT, *run)[0] == 0
    names = [f"{name}_{k:05d}.png" for name in ("a", "b", "c d") for k in range(4)]
    assert files(tmp_path / "out") == names


def test_photos_are_painted_into_png_files(inpaint, tmp_path):
    picture, mask = put_pair(tmp_path / "in", "photo", ending=".jpg")
    assert inpaint("textless", "--indir", "in", "--outdir", "out")[0] == 0
    assert_repainted(picture, mask, tmp_path / "out" / "photo.png")


def test_after_ctrl_c_finished_pictures_are_kept(inpaint, folder, tmp_path, monkeypatch):
    begun, generate = [], Pipeline.generate

    def interrupted(self, *args, **kwargs):
        begun.append(args)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(Pipeline, "generate", interrupted)
    code, _, err = inpaint("textless", "--indir", folder, "--outdir", "out")
    assert code == 130
    assert "finished pictures are kept: out/a.png ... b.png" in err
    assert files(tmp_path / "out") == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("prepare", "hint"),
    [
        (lambda f: (f / "b_mask.png").unlink(), "no partner for b.png"),
        (lambda f: (f / "b.png").unlink(), "no partner for b_mask.png"),
        (lambda f: (f / "b.png").write_text("no picture"), "b.png cannot be read"),
        (lambda f: (f / "c d_mask.png").write_bytes(b"\x89PNG"), "c d_mask.png cannot be read"),
        (lambda f: Image.new("L", (19, 14)).save(f / "b_mask.png"), "marks nothing"),
        (
            lambda f: Image.new("L", (40, 14), 255).save(f / "b_mask.png"),
            "40x14, the picture 19x14",
        ),
        (lambda f: Image.new("RGB", (9, 9)).save(f / "b.webp"), "b.png, b.webp would become"),
    ],
)
def test_a_bad_pair_is_told_before_any_is_drawn(inpaint, folder, tmp_path, prepare, hint):
    prepare(folder)
    assert_one_error(inpaint("textless", "--indir", folder, "--outdir", "out"), hint)
    assert not (tmp_path / "out").exists()


def test_pictures_are_never_replaced(inpaint, folder, tmp_path):
    assert_one_error(inpaint("textless", "--indir", folder, "--outdir", folder), "in use")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").write_text("mine")
    result = inpaint("textless", "--indir", folder, "--outdir", "out")
    assert_one_error(result, "--outdir out", "already in use: b.png")
    assert (tmp_path / "out" / "b.png").read_text() == "mine"
    assert files(tmp_path / "out") == ["b.png"]


# --- one picture ---


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (16, 16), (37, 5), (65, 63)])
@pytest.mark.parametrize("kind", ["textless", "text", "sighted"])
def test_a_picture_of_any_size_keeps_it(inpaint, tmp_path, kind, size):
    picture, mask = put_pair(tmp_path, "x", size)
    words = () if kind == "textless" else TEXT
    one = ("--init-img", "x.png", "--mask", "x_mask.png", "--strength", 1)
    code, out, err = inpaint(kind, *words, *one)
    assert code == 0, err
    painted = tmp_path / "outputs" / "inpaint-samples" / "samples" / "00000.png"
    if size != (1, 1):
        assert_repainted(picture, mask, painted)
    assert Image.open(painted).size == size
    assert f"Size: {size[0]}x{size[1]}," in Image.open(painted).info["parameters"]
    assert ("cropped back" in out) == bool(size[0] % 4 or size[1] % 4)


@pytest.mark.parametrize("kind", ["textless", "text", "sighted"])
def test_a_picture_is_drawn_again_from_its_file_to_the_bit(inpaint, tmp_path, kind):
    put_pair(tmp_path, "x")
    words = () if kind == "textless" else ("--prompt", "a dog", "--negative_prompt", "fog")
    one = ("--init-img", "x.png", "--mask", "x_mask.png", "--n_samples", 2, "--n_iter", 2)
    assert inpaint(kind, *words, *one, "--outdir", "run")[0] == 0
    wanted = tmp_path / "run" / "samples" / "00003.png"
    code, _, err = inpaint(kind, "--from-image", wanted, "--outdir", "again")
    assert code == 0, err
    assert (tmp_path / "again" / "samples" / "00000.png").read_bytes() == wanted.read_bytes()
    Image.new("L", (19, 14), 255).save(tmp_path / "x_mask.png")
    result = inpaint(kind, "--from-image", wanted, "--outdir", "no")
    assert_one_error(result, "x_mask.png, which has changed since", "--mask")


def test_strength_and_scale_are_left_to_the_kind_of_model(inpaint, tmp_path):
    put_pair(tmp_path, "x")
    one = ("--init-img", "x.png", "--mask", "x_mask.png", "--n_samples", 1)
    written = {"text": ("5", "0.75"), "sighted": ("7.5", "1"), "textless": ("1", "1")}
    for kind, (scale, strength) in written.items():
        words = () if kind == "textless" else TEXT
        assert inpaint(kind, *words, *one, "--outdir", kind)[0] == 0
        text = Image.open(tmp_path / kind / "samples" / "00000.png").info["parameters"]
        assert f"CFG scale: {scale}," in text and f"Denoising strength: {strength}," in text


def test_what_a_picture_file_has_beyond_rgb_is_named(inpaint, tmp_path):
    picture, _ = put_pair(tmp_path, "x")
    seen_through = Image.open(picture).convert("RGBA")
    seen_through.putpixel((0, 0), (9, 9, 9, 0))
    seen_through.save(picture)
    code, out, _ = inpaint("textless", "--init-img", "x.png", "--mask", "x_mask.png")
    assert code == 0
    assert "x.png: its transparency is dropped" in out


def test_jpeg_files_are_warned_of(inpaint, tmp_path):
    put_pair(tmp_path, "x")
    one = ("--init-img", "x.png", "--mask", "x_mask.png", "--format", "jpg")
    assert "--format jpg changes every pixel" in inpaint("textless", *one)[2]


# --- what cannot be ---


@pytest.mark.parametrize(
    ("kind", "arguments", "hint"),
    [
        ("text", [*TEXT], "neither --init-img nor --indir"),
        ("text", [*TEXT, "--init-img", "x.png"], "no --mask was given"),
        ("text", [*TEXT, "--init-img", "x.png", "--indir", "in"], "given together"),
        ("text", [*TEXT, "--init-img", "none.png", "--mask", "x_mask.png"], "none.png"),
        ("text", [*TEXT, "--init-img", "x.png", "--mask", "none.png"], "none.png"),
        ("text", ["--init-img", "x.png", "--mask", "x_mask.png"], "no --prompt was given"),
        ("sighted", ["--init-img", "x.png", "--mask", "x_mask.png"], "no --prompt was given"),
        ("textless", [*TEXT, "--init-img", "x.png", "--mask", "x_mask.png"], "takes no text"),
        ("textless", ["--scale", 2, "--init-img", "x.png", "--mask", "x_mask.png"], "--scale 2"),
        ("textless", ["--indir", "nowhere"], "--indir nowhere does not exist"),
        ("textless", ["--indir", "x.png"], "--indir x.png is a file"),
        ("textless", ["--indir", "empty"], "holds no pictures"),
        ("textless", ["--indir", "in", "--skip_save"], "--skip_save"),
        ("textless", ["--indir", "in", "--steps", 0], "--ddim_steps 0"),
        ("text", [*TEXT, "--indir", "in", "--W", 64], "unknown argument '--W'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(inpaint, tmp_path, kind, arguments, hint):
    put_pair(tmp_path, "x")
    put_pair(tmp_path / "in", "y")
    (tmp_path / "empty").mkdir()
    assert_one_error(inpaint(kind, *arguments), hint)
    assert not (tmp_path / "outputs").exists()


def test_bad_input_is_told_without_torch(tmp_path, models):
    """Loading it takes a second, which a mistyped path should not cost."""
    blocked = tmp_path / "torch"
    blocked.mkdir()
    (blocked / "__init__.py").write_text("raise AssertionError('torch was imported')")
    put_pair(tmp_path / "in", "x")
    (tmp_path / "in" / "x_mask.png").unlink()
    run = ("--ckpt", models["textless"], "--indir", "in")
    code, _, err = run_program(SCRIPT, *run, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert code == 2 and "no partner for x.png" in err


def test_the_demo_model_repaints_on_a_fresh_machine(tmp_path):
    if not (ROOT / "models" / "ldm" / "demo" / "model.safetensors").is_file():
        pytest.skip("the demo model is not there")
    picture, mask = put_pair(tmp_path, "x", (70, 50))
    words = ("--prompt", "a cat on a blue background", "--steps", "2", "--n_samples", "1")
    run = ("--init-img", "x.png", "--mask", "x_mask.png", "--device", "cpu", *words)
    code, out, err = run_program(SCRIPT, *run, cwd=tmp_path)
    assert code == 0, err
    assert "drawing with the small demo model" in out and "(4 input channels)" in out
    painted = tmp_path / "outputs" / "inpaint-samples" / "samples" / "00000.png"
    assert_repainted(picture, mask, painted)


# --- at the picture's own size ---


def test_only_masked_keeps_a_transparent_picture_as_it_is_around_the_mask(inpaint, tmp_path):
    picture, mask = put_pair(tmp_path / "in", "a", size=(61, 47))
    clear = Image.open(picture).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(picture)
    area = ("--only_masked", 6, "--mask_blur", 0, "--n_samples", 1)
    given = ("--init-img", picture, "--mask", mask, "--outdir", "out", "--skip_grid", *area)
    code, out, err = inpaint("text", *TEXT, *given)
    assert code == 0, err
    painted = Image.open(tmp_path / "out" / "samples" / "00000.png")
    assert (painted.mode, painted.size) == ("RGBA", (61, 47))
    kept = pixels(mask)[..., 0] < 128
    assert np.array_equal(np.asarray(painted)[kept], np.asarray(clear)[kept])
    assert_repainted(picture, mask, tmp_path / "out" / "samples" / "00000.png")
    assert "is 61x47, of which 33x33 around the mask are drawn, at 16x16" in out


@pytest.mark.parametrize("kind", ["text", "sighted"])
def test_a_picture_is_drawn_on_without_a_mask_and_drawn_again(inpaint, tmp_path, kind):
    picture, _ = put_pair(tmp_path / "in", "a", size=(20, 16))
    given = ("--init-img", picture, "--outpaint", "4,0,8,0", "--mask_blur", 0, "--n_samples", 1)
    code, out, err = inpaint(kind, *TEXT, *given, "--outdir", "out", "--skip_grid")
    assert code == 0, err
    (first,) = (tmp_path / "out" / "samples").glob("*.png")
    assert pixels(first).shape == (16, 32, 3)
    assert np.array_equal(pixels(first)[:, 4:24], pixels(picture))
    assert "is drawn on to 32x16 pixels" in out
    code, _, err = inpaint(kind, "--from-image", first, "--outdir", "again")
    assert code == 0, err
    (second,) = (tmp_path / "again" / "samples").glob("*.png")
    assert np.array_equal(pixels(first), pixels(second))


def test_each_pair_of_a_folder_keeps_its_size_when_only_its_mask_is_drawn(
    inpaint, folder, tmp_path
):
    area = ("--only_masked", 2, "--mask_blur", 0)
    code, _, err = inpaint("textless", "--indir", folder, "--outdir", "out", *area)
    assert code == 0, err
    for name in ("a", "b", "c d"):
        ours = tmp_path / "out" / f"{name}.png"
        assert_repainted(folder / f"{name}.png", folder / f"{name}_mask.png", ours)


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (["--only_masked", "-1"], "--only_masked -1"),
        (["--mask_blur", "65"], "from 0 to 64"),
        (["--fill", "red"], "original, fill, noise or nothing"),
        (["--outpaint", "1,2"], "LEFT,TOP,RIGHT,BOTTOM"),
        (["--outpaint", "99999,0,0,0", "--max_pixels", "5000"], "--max_pixels"),
    ],
)
def test_what_cannot_be_laid_out_is_one_line(inpaint, tmp_path, flags, hint):
    picture, mask = put_pair(tmp_path / "in", "a")
    given = ("--init-img", picture, "--mask", mask, "--outdir", "out")
    assert_one_error(inpaint("text", *TEXT, *given, *flags), hint)
    assert not (tmp_path / "out").exists()
