"""Names of folders: any prompt has one, no two prompts share one, and every system takes it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from ldm.pipelines.batches import Place
from ldm.pipelines.progress import Picture
from ldm.programs.naming import LONGEST_SLUG, PromptNaming, slug
from ldm.programs.output import OutputFolder

PROMPTS = [
    "a photo of a cat",
    "A photo of a cat",
    "a_photo_of_a_cat",
    "a photo of a cat ",
    "a photo of a cat.",
    "a photo: of a cat",
    "a photo? of a cat",
    "a/photo\\of:a*cat",
    "富士山",
    "富士山。",
    "é",
    "e\u0301",
    "straße",
    "strasse",
    "STRASSE",
    "ı",
    "i",
    "I",
    "",
    " ",
    "_",
    "empty",
    "empty-e3b0c44298",
    ".",
    "..",
    "...",
    ".hidden",
    "hidden",
    "con",
    "CON",
    "con.txt",
    "aux ",
    "nul",
    "com1",
    "lpt¹.png",
    "a\tb",
    "a\nb",
    "a\x00b",
    "a\u2028b",
    "-rf",
    "~",
    "\ud800 half a letter",
    "cat" * 100,
    "cat" * 100 + "!",
    "猫" * 100,
    "猫" * 100 + "犬",
    "👩‍👩‍👧‍👦" * 30,
    "x" * LONGEST_SLUG,
    "x" * (LONGEST_SLUG + 1),
    "phone 03-1234567890",
]


def test_blanks_become_underscores_and_letters_of_any_language_stay():
    assert slug("a photo of a cat") == "a_photo_of_a_cat"
    assert slug("富士山 の 猫") == "富士山_の_猫"


def test_no_two_prompts_share_a_folder_also_where_capitals_do_not_count():
    for first, second in itertools.combinations(PROMPTS, 2):
        names = slug(first), slug(second)
        assert names[0] != names[1]
        folded = {name.upper().casefold() for name in names}
        assert len(folded) == 2, (first, second)


@pytest.mark.parametrize("prompt", PROMPTS, ids=ascii)
def test_every_name_is_one_that_linux_and_windows_take(prompt):
    name = slug(prompt)
    assert 0 < len(name.encode()) <= LONGEST_SLUG
    assert not set(name) & set('<>:"/\\|?*')
    assert all(ord(letter) >= 32 and not letter.isspace() for letter in name)
    assert name[0] != "." and name[-1] not in ". "
    devices = {"con", "prn", "aux", "nul", "com1", "lpt1", "lpt¹"}
    assert name.split(".")[0].lower() not in devices
    assert slug(prompt) == name


@pytest.mark.parametrize("prompt", PROMPTS, ids=ascii)
def test_every_name_can_be_made_a_folder_beside_the_others(prompt, tmp_path):
    (tmp_path / slug(prompt)).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [slug(prompt)]


def picture(prompt, seed=7):
    pixels = np.full((8, 8, 3), seed, np.uint8)
    return Picture(pixels, pixels, prompt, seed, Place(0, 0, 1, 1), "x\nSteps: 1, Seed: 2")


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_pictures_go_to_their_prompts_folder_with_their_seed_and_each_folder_has_a_grid(tmp_path):
    output = OutputFolder(tmp_path, naming=PromptNaming())
    for prompt, seed in [("cat", 7), ("cat", 8), ("dog", 9), ("cat", 10)]:
        output.take(picture(prompt, seed), keep=True)
    output.save_grids(2, lambda grid: grid)
    cats = [f"cat/seed_{seed}_{n:05d}.png" for n, seed in enumerate((7, 8, 10))]
    assert names(tmp_path) == sorted(
        [*cats, "cat/grid-0000.png", "dog/grid-0000.png", "dog/seed_9_00000.png"]
    )
    assert Image.open(tmp_path / "cat/grid-0000.png").size == (22, 22)
    assert Image.open(tmp_path / "dog/grid-0000.png").size == (8, 8)
    assert "seed_7_00000.png ... " in output.summary()


def test_a_translated_prompts_folder_has_the_name_that_was_typed(tmp_path):
    originals = (("a cat", "猫"), ("a cat", "ねこ"))
    output = OutputFolder(tmp_path, naming=PromptNaming(originals))
    for prompt in ("a cat", "a dog"):
        output.take(picture(prompt), keep=True)
    output.save_grids(2, lambda grid: grid)
    assert {path.name for path in tmp_path.iterdir()} == {"猫", "a_dog"}
    assert PromptNaming(originals).folders(["a cat", "a dog"]) == ["", "猫", "a_dog"]


def test_numbers_go_on_whatever_the_seed_and_the_format_are(tmp_path):
    for seed, format in [(7, "png"), (3, "jpg"), (7, "png")]:
        output = OutputFolder(tmp_path, format, PromptNaming())
        output.take(picture("cat", seed))
    (tmp_path / "cat" / "seed_x_00099.png").write_text("counts for nothing")
    assert names(tmp_path / "cat") == [
        "seed_3_00001.jpg",
        "seed_7_00000.png",
        "seed_7_00002.png",
        "seed_x_00099.png",
    ]


def test_two_runs_of_one_seed_at_once_lose_nothing(tmp_path):
    first, second = (OutputFolder(tmp_path, naming=PromptNaming()) for _ in range(2))
    for _ in range(3):
        first.take(picture("cat"))
        second.take(picture("cat"))
    assert len(names(tmp_path)) == 6


def test_a_file_in_a_prompts_place_is_told_beforehand(tmp_path):
    from ldm.errors import UserError

    (tmp_path / "cat").write_text("")
    output = OutputFolder(tmp_path, naming=PromptNaming())
    output.check(["dog"])
    with pytest.raises(UserError, match="--outdir .*cat cannot be written to"):
        output.check(["dog", "cat"])
    assert names(tmp_path) == []
