from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ldm.errors import UserError
from ldm.pipelines.batches import Place
from ldm.pipelines.progress import Picture
from ldm.programs.output import OutputFolder


def picture(value):
    pixels = np.full((8, 8, 3), value, np.uint8)
    return Picture(
        pixels, pixels + 1, "a", 42, Place(0, 0, 1, 1), "a\nSteps: 1, Seed: 2, Size: 8x8"
    )


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_names_are_the_references(tmp_path):
    output = OutputFolder(tmp_path / "out")
    for value in (1, 2):
        output.take(picture(value), keep=True)
    output.save_grids(2, lambda grid: grid)
    assert names(tmp_path / "out") == ["grid-0000.png", "samples/00000.png", "samples/00001.png"]
    summary = output.summary()
    assert "00000.png ... 00001.png" in summary and "grid-0000.png" in summary


def test_numbers_go_on_after_the_highest_also_when_files_were_deleted(tmp_path):
    for _ in range(2):
        output = OutputFolder(tmp_path)
        for value in (1, 2):
            output.take(picture(value), keep=True)
        output.save_grids(2, lambda grid: grid)
    (tmp_path / "samples" / "00001.png").unlink()
    (tmp_path / "notes.txt").write_text("counts for nothing")
    output = OutputFolder(tmp_path)
    output.take(picture(9), keep=True)
    output.save_grids(2, lambda grid: grid)
    assert [path.name for path in output.saved] == ["00004.png"]
    assert output.grids[0].name == "grid-0002.png"


def test_two_runs_at_once_share_a_folder_without_loss(tmp_path):
    first, second = OutputFolder(tmp_path), OutputFolder(tmp_path)
    for value in (10, 20, 30):
        first.take(picture(value))
        second.take(picture(value + 1))
    values = {path: np.asarray(Image.open(path))[0, 0, 0] for path in first.saved + second.saved}
    assert sorted(values.values()) == [10, 11, 20, 21, 30, 31]
    assert len(values) == 6


def test_the_grid_is_made_of_unmarked_pictures_and_then_marked(tmp_path):
    output = OutputFolder(tmp_path)
    for value in (1, 2):
        output.take(picture(value), save=False, keep=True)
    output.save_grids(2, lambda grid: grid + 100)
    grid = np.asarray(Image.open(output.grids[0]))
    assert grid.shape == (12, 22, 3)
    assert (grid[5, 5, 0], grid[5, 15, 0], grid[0, 0, 0]) == (102, 103, 100)
    assert output.saved == []


def test_checking_leaves_no_trace(tmp_path):
    OutputFolder(tmp_path / "a" / "b").check()
    assert names(tmp_path) == [] and not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "samples").write_text("")
    with pytest.raises(UserError, match="--outdir .*half/samples cannot be written to"):
        OutputFolder(tmp_path / "half").check()
    for folder in (tmp_path / "file", tmp_path / "file" / "under"):
        with pytest.raises(UserError, match="--outdir .* written to .*expected a writable") as told:
            OutputFolder(folder).check()
        assert str(told.value).count(f"{folder} ") == 1  # and not once more


def test_a_samples_folder_that_cannot_be_is_refused_before_anything_is_drawn(tmp_path):
    (tmp_path / "samples").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="samples cannot be written to .*broken link"):
        OutputFolder(tmp_path).check()
    (tmp_path / "samples").unlink()
    (tmp_path / "samples").write_text("a file")
    with pytest.raises(UserError, match="samples"):
        OutputFolder(tmp_path).check()
