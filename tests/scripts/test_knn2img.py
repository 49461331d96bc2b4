"""The program knn2img as a user meets it, with a small model and a stand-in for CLIP."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from running import load_program, run_program
from tiny_rdm import COLOURS, StubPictures, StubTexts, write_tiny_rdm

from ldm.images.io import save_picture
from ldm.images.metadata import parse_parameters, read_parameters
from ldm.programs.retrieval import RetrievalProgram
from ldm.retrieval.embedding import embed_folder

SCRIPT = "scripts/knn2img.py"


@pytest.fixture(scope="module")
def rdm(tmp_path_factory):
    return write_tiny_rdm(tmp_path_factory.mktemp("rdm"))


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neighbours")
    for name, colour in COLOURS.items():
        save_picture(np.full((9, 9, 3), colour, np.uint8), folder / f"pictures/{name}.png")
    embed_folder(folder / "pictures", folder / "database", StubPictures(), batch_size=4)
    return folder / "database"


@pytest.fixture
def draw(rdm, tmp_path, monkeypatch, capsys):
    """Run the program in this process; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RetrievalProgram, "make_encoder", lambda self, settings: StubTexts())
    program = load_program(SCRIPT)
    base = ["--device", "cpu", "--ddim_steps", "2", "--n_samples", "2", "--outdir", "o"]

    def run(*arguments, ckpt=rdm, base=base):
        code = program.main([*base, "--ckpt", str(ckpt), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def assert_one_error(result, *hints):
    code, _, err = result
    lines = err.splitlines()
    assert code == 2, err
    assert len(lines) == 1 and lines[0].startswith("knn2img: error: "), err
    for hint in hints:
        assert hint in lines[0]


def test_pictures_and_grid_are_written_with_their_recipe(draw, database, tmp_path):
    flags = ("--prompt", "red", "--use_neighbors", "--knn", 3, "--database", database)
    code, out, err = draw(*flags)
    assert (code, err.count("warning")) == (0, 0), err
    assert f"3 neighbours of 4 in {database} (exact search by " in out
    samples = [tmp_path / f"o/samples/0000{n}.png" for n in (0, 1)]
    assert [path.exists() for path in samples] == [True, True]
    assert pixels(tmp_path / "o/grid-0000.png").shape[1] > 2 * 16
    prompt, _, entries = parse_parameters(read_parameters(samples[0]))
    assert (prompt, entries["Size"], entries["CFG scale"]) == ("red", "16x16", "5")
    assert (entries["Retrieval"], entries["Neighbours"]) == ("True", "3")
    assert entries["Database"] == str(database)


def test_a_saved_picture_is_drawn_again_from_itself(draw, database, tmp_path):
    assert draw("--prompt", "red", "--use_neighbors", "--knn", 2, "--database", database)[0] == 0
    code, _, err = draw("--from-image", "o/samples/00001.png", base=("--outdir", "o"))
    assert code == 0 and "warning" not in err, err
    again, first = (pixels(tmp_path / f"o/samples/0000{n}.png") for n in (2, 1))
    assert np.array_equal(again, first)


def test_text_and_neighbours_and_their_number_all_count(draw, database, tmp_path):
    near = ("--use_neighbors", "--database", database)
    runs = [
        ("--prompt", "red"),
        ("--prompt", "green"),
        ("--prompt", "red", "--n_repeat", 2),
        ("--prompt", "red", *near, "--knn", 1),
        ("--prompt", "red", *near, "--knn", 4),
        ("--prompt", "red", "--negative_prompt", "blue"),
    ]
    for number, flags in enumerate(runs):
        assert draw(*flags, "--skip_grid", "--outdir", f"o{number}")[0] == 0
    drawn = [pixels(tmp_path / f"o{number}/samples/00000.png") for number in range(len(runs))]
    # One neighbour of "red" is red itself, and equal tokens weigh nothing more in attention; but
    # their number does beside the zeros of guidance, which have as many.
    pairs = [(0, 1), (0, 4), (0, 5), (3, 4)]
    assert all(not np.array_equal(drawn[a], drawn[b]) for a, b in pairs)
    assert np.abs(drawn[0] - drawn[2]).max() <= 1 and np.abs(drawn[0] - drawn[3]).max() <= 1


def test_without_neighbours_a_picture_does_not_speak_of_them(draw):
    code, out, err = draw("--prompt", "red", "--knn", 3)
    assert code == 0 and "neighbours of" not in out
    assert "--knn has no effect without --use_neighbors" in err
    entries = parse_parameters(read_parameters("o/samples/00000.png"))[2]
    assert {"Retrieval", "Database", "Text tokens"}.isdisjoint(entries)


def test_the_references_samplers_sizes_and_files_work(draw, tmp_path):
    (tmp_path / "prompts.txt").write_text("red\nblue\ngreen\n", encoding="utf-8")
    flags = ("--plms", "--H", 24, "--W", 16, "--n_rows", 2, "--n_iter", 1)
    code, out, err = draw("--from-file", "prompts.txt", *flags)
    assert code == 0, err
    assert pixels(tmp_path / "o/samples/00002.png").shape == (24, 16, 3)
    assert "plms" in out


def test_databases_and_searchers_that_do_not_fit_are_told(draw, database, tmp_path):
    near = ("--prompt", "red", "--use_neighbors")
    assert_one_error(draw(*near), "artbench-surrealism does not exist", "train_searcher.py")
    assert_one_error(draw(*near, "--database", database), "--knn 10", "4 embeddings")
    chosen = (*near, "--knn", 2, "--database", database)
    assert_one_error(draw(*chosen, "--clip_type", "ViT-B/32"), "ViT-L/14", "ViT-B/32")
    assert_one_error(draw(*chosen, "--searcher", tmp_path), "searcher.json cannot be read")
    np.savez(tmp_path / "wide.npz", embedding=np.ones((3, 5), np.float32))
    result = draw(*near, "--knn", 2, "--database", tmp_path / "wide.npz")
    assert_one_error(result, "5 numbers, the queries have 8")


def test_models_of_other_kinds_are_refused(draw, tiny_ckpt, rdm, tmp_path, capsys):
    assert_one_error(draw("--prompt", "red", ckpt=tiny_ckpt), "a text encoder of its own")
    program = load_program("scripts/txt2img.py")
    assert program.main(["--ckpt", str(rdm), "--outdir", str(tmp_path / "o")]) == 2
    assert "use scripts/knn2img.py" in capsys.readouterr().err
    assert_one_error(draw("--prompt", "red", ckpt=tmp_path / "none.ckpt"), "there is no file")
    assert_one_error(draw("--knn", "0"), "--knn 0 was given")
    assert_one_error(draw("--laion400m"), "unknown argument '--laion400m'")


def test_clip_of_another_width_is_refused(draw, monkeypatch):
    import torch

    class Wide(StubTexts):
        def __call__(self, texts):
            return torch.ones(len(texts), 9)

    monkeypatch.setattr(RetrievalProgram, "make_encoder", lambda self, settings: Wide())
    assert_one_error(draw("--prompt", "red"), "gives 9 numbers", "takes 8")


def test_without_clips_weights_one_line_says_so(rdm, tmp_path):
    options = ("--ckpt", rdm, "--device", "cpu", "--outdir", tmp_path / "o")
    home = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    result = run_program(SCRIPT, *options, cwd=tmp_path, **home)
    assert_one_error(result, "CLIP ViT-L/14: this machine has none", "--clip_ckpt")
    result = run_program(SCRIPT, *options, "--clip_ckpt", "none.pt", cwd=tmp_path)
    assert_one_error(result, "--clip_ckpt none.pt does not exist")
    assert not (tmp_path / "o").exists()


def test_help_needs_no_torch(tmp_path):
    code, out, imports = run_program(SCRIPT, "--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in imports.splitlines()}
    assert code == 0 and "--use_neighbors" in out and "--laion400m" not in out
    assert loaded.isdisjoint({"torch", "numpy", "PIL", "omegaconf", "faiss", "sklearn"})
