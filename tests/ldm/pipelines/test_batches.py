from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.pipelines.batches import Place, plan, read_prompts, replay
from ldm.settings.generation import MAX_SEED, Txt2ImgSettings


def test_iterations_come_before_prompts_and_the_last_batch_may_be_short():
    batches = plan(Txt2ImgSettings(n_samples=2, n_iter=2), ["a", "b", "c"])
    assert [batch.prompts for batch in batches] == [("a", "b"), ("c",), ("a", "b"), ("c",)]
    assert [place.index for batch in batches for place in batch.places] == list(range(6))
    assert [place.row for batch in batches for place in batch.places] == [0, 1, 0, 0, 1, 0]


def test_one_prompt_fills_a_batch():
    settings = Txt2ImgSettings(prompt="a", n_samples=3)
    assert read_prompts(settings) == ["a", "a", "a"]


def test_a_run_is_as_long_as_can_be_planned():
    with pytest.raises(UserError, match=r"400000 .* 1200000 in all; expected at most 1000000"):
        plan(Txt2ImgSettings(n_iter=400_000), ["a", "b", "c"])


def test_every_picture_of_a_per_image_run_has_a_seed():
    settings = Txt2ImgSettings(seed_mode="per-image", seed=MAX_SEED - 5, n_iter=2)
    assert len(plan(settings, ["a"] * 3)) == 2
    with pytest.raises(UserError, match=f"--seed {MAX_SEED - 5} .* at most {MAX_SEED - 7},"):
        plan(settings, ["a"] * 4)


@pytest.mark.parametrize("index", range(10))
def test_a_replay_is_the_run_up_to_the_pictures_batch(index):
    run = plan(Txt2ImgSettings(n_samples=2, n_iter=2), ["p"] * 5)
    place = next(p for batch in run for p in batch.places if p.index == index)
    again = replay(place, "p")
    assert [batch.places for batch in again] == [batch.places for batch in run[: len(again)]]
    assert [batch.kept for batch in again[:-1]] == [()] * (len(again) - 1)
    (row,) = again[-1].kept
    assert again[-1].places[row] == place


def test_a_replay_ends_with_the_only_batch_it_draws():
    batches = replay(Place(iteration=0, position=0, per_iteration=100, n_samples=3), "p")
    assert len(batches) == 1


def test_prompt_files_are_utf8_with_or_without_a_mark_and_blank_lines_count(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeff富士山\r\n\r\nein Bär\n".encode())
    assert read_prompts(Txt2ImgSettings(from_file=str(file))) == ["富士山", "", "ein Bär"]


@pytest.mark.parametrize(
    ("content", "hint"),
    [(b"", "no prompt"), (b" \n\n", "no prompt"), ("富士山".encode("utf-16"), "not UTF-8")],
)
def test_a_prompt_file_without_prompts_is_refused(tmp_path, content, hint):
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=hint):
        read_prompts(Txt2ImgSettings(from_file=str(file)))


def test_a_missing_prompt_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_prompts(Txt2ImgSettings(from_file=str(tmp_path / "none.txt")))
    with pytest.raises(UserError, match="cannot be read"):
        read_prompts(Txt2ImgSettings(from_file=str(tmp_path)))
