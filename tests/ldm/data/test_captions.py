"""Captions in files and lines: paired with their pictures, what is missing or bad is said."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from PIL import Image
from small_pictures import break_files, captioned_folder, flat, save
from torch.utils.data import DataLoader

from ldm.data.captions import CaptionedFolder, CaptionedJSONL
from ldm.data.strings import Strings
from ldm.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def captions(data) -> list[str]:
    return [item["txt"] for item in data]


def test_pictures_and_captions_of_the_same_name_belong_together(tmp_path):
    flat(tmp_path / "a.jpg", (255, 255, 255))
    (tmp_path / "a.txt").write_text("white", encoding="utf-8")
    flat(tmp_path / "deep" / "er" / "b.PNG", (0, 0, 0))
    (tmp_path / "deep" / "er" / "b.txt").write_text("  black\nnight  ", encoding="utf-8")
    data = CaptionedFolder(str(tmp_path), 8)
    assert len(data) == 2
    assert {item["txt"]: float(item["jpg"].mean()) for item in data} == {
        "white": 1.0,
        "black night": -1.0,
    }
    assert data[0]["jpg"].shape == (8, 8, 3)
    assert data[0]["jpg"].dtype == np.float32


@pytest.mark.parametrize("ending", [".txt", ".TXT", ".Txt", ".tXt"])
@pytest.mark.parametrize("picture", ["a.JPG", "a.jpg", "a.JPEG", "a.Png"])
def test_endings_may_be_in_any_case(tmp_path, picture, ending):
    Image.new("RGB", (8, 8)).save(tmp_path / picture)
    (tmp_path / f"a{ending}").write_text("a cat", encoding="utf-8")
    for default in (None, "none"):
        assert captions(CaptionedFolder(tmp_path, 8, default_caption=default)) == ["a cat"]


def test_of_two_captions_that_differ_in_case_the_usual_one_counts(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    for ending in (".TXT", ".txt", ".Txt"):
        (tmp_path / f"a{ending}").write_text(ending, encoding="utf-8")
    assert captions(CaptionedFolder(tmp_path, 8)) == [".txt"]


def test_missing_captions_are_counted_and_left_out_or_given_the_default(tmp_path, caplog):
    captioned_folder(tmp_path)
    (tmp_path / "1.txt").unlink()
    (tmp_path / "2.txt").write_text(" \n", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert set(captions(CaptionedFolder(str(tmp_path), 8))) == {"picture 0", "picture 3"}
    assert "1 of 4 pictures have no caption file and are left out" in caplog.text
    assert "2.txt is empty" in caplog.text
    caplog.clear()
    filled = CaptionedFolder(str(tmp_path), 8, default_caption="")
    assert captions(filled) == ["picture 0", "", "", "picture 3"]
    assert "1 of 4 pictures have no caption file and are given the default" in caplog.text


def test_captions_in_other_encodings_are_read_as_asked(tmp_path):
    captioned_folder(tmp_path, 3)
    (tmp_path / "0.txt").write_bytes("猫".encode("utf-16"))  # its mark says what it is
    (tmp_path / "1.txt").write_bytes("café".encode("latin-1"))
    strict = CaptionedFolder(str(tmp_path), 8)
    assert set(captions(strict)) == {"猫", "picture 2"}
    assert strict.bad_items.count == 1
    replaced = CaptionedFolder(str(tmp_path), 8, encoding_errors="replace")
    assert captions(replaced) == ["猫", "caf�", "picture 2"]
    assert captions(CaptionedFolder(str(tmp_path), 8, encoding="latin-1"))[1] == "café"


def test_unknown_encodings_are_said_before_anything_is_read(tmp_path):
    captioned_folder(tmp_path, 1)
    with pytest.raises(UserError, match="encoding 'utf-9'"):
        CaptionedFolder(str(tmp_path), 8, encoding="utf-9")
    with pytest.raises(UserError, match="strict, replace, ignore"):
        CaptionedFolder(str(tmp_path), 8, encoding_errors="skip")


def test_bad_pictures_of_every_kind_are_left_out_by_two_workers(tmp_path):
    captioned_folder(tmp_path)
    bad = break_files(tmp_path)
    for path in bad:
        path.with_suffix(".txt").write_text("bad", encoding="utf-8")
    data = CaptionedFolder(str(tmp_path), 8)
    batches = list(DataLoader(data, batch_size=3, num_workers=2))
    seen = [text for batch in batches for text in batch["txt"]]
    assert len(seen) == len(data) == 4 + len(bad)
    assert "bad" not in seen
    assert data.bad_items.count == len(bad)


def test_folders_with_nothing_to_use_are_refused(tmp_path):
    with pytest.raises(UserError, match="missing does not exist; expected a folder"):
        CaptionedFolder(str(tmp_path / "missing"), 8)
    with pytest.raises(UserError, match="has no pictures"):
        CaptionedFolder(str(tmp_path), 8)
    save(tmp_path / "a.png")
    with pytest.raises(UserError, match="none of 1 pictures has a caption"):
        CaptionedFolder(str(tmp_path), 8)
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot be read, the last as .*a\.png"):
        CaptionedFolder(str(tmp_path), 8)


def test_hidden_files_are_not_pictures_and_a_link_round_in_a_circle_ends(tmp_path):
    captioned_folder(tmp_path, 1)
    save(tmp_path / "._0.png")
    (tmp_path / "round").symlink_to(tmp_path)
    assert len(CaptionedFolder(str(tmp_path), 8)) == 1


def lines(path, entries) -> str:
    text = "\n".join(e if isinstance(e, str) else json.dumps(e) for e in entries)
    path.write_text(text + "\n", encoding="utf-8")
    return str(path)


def test_every_name_that_jsonl_files_use_is_understood(tmp_path):
    captioned_folder(tmp_path / "pictures", 3)
    entries = [
        {"file_name": "pictures/0.png", "text": "zero"},
        {"image": "pictures/1.png", "caption": "one"},
        {"path": str(tmp_path / "pictures" / "2.png"), "prompt": "two"},
    ]
    data = CaptionedJSONL(lines(tmp_path / "all.jsonl", entries), 8)
    assert captions(data) == ["zero", "one", "two"]


def test_paths_can_be_relative_to_another_folder(tmp_path):
    captioned_folder(tmp_path / "pictures", 1)
    file = lines(tmp_path / "all.jsonl", [{"file_name": "0.png", "text": "zero"}])
    with pytest.raises(UserError, match="cannot be read"):
        CaptionedJSONL(file, 8)
    assert len(CaptionedJSONL(file, 8, root=str(tmp_path / "pictures"))) == 1


def test_bad_lines_are_counted_and_named_by_their_numbers(tmp_path, caplog):
    save(tmp_path / "a.png")
    good = {"file_name": "a.png", "text": "a"}
    bad = ["{not json", '["a list"]', {"text": "no picture"}, {"image": "a.png", "text": " "}]
    file = lines(tmp_path / "all.jsonl", [good, *bad, "", good, {"image": 3, "text": "a"}])
    with caplog.at_level(logging.WARNING):
        assert len(CaptionedJSONL(file, 8)) == 2
    assert "5 of 7 lines are left out: line 2 (not JSON" in caplog.text
    assert "line 5 (no caption under text, caption, prompt)" in caplog.text
    assert "line 8 (no picture" in caplog.text


def test_a_line_that_is_not_utf_8_is_a_bad_line(tmp_path, caplog):
    save(tmp_path / "a.png")
    file = lines(tmp_path / "all.jsonl", [{"file_name": "a.png", "text": "a"}])
    with open(file, "ab") as end:
        end.write(b'{"file_name": "a.png", "text": "caf\xe9"}\n')
    assert len(CaptionedJSONL(file, 8)) == 1
    assert "1 of 2 lines are left out: line 2" in caplog.text


def test_one_of_several_captions_is_chosen_anew_each_time(tmp_path):
    save(tmp_path / "a.png")
    file = lines(tmp_path / "all.jsonl", [{"file_name": "a.png", "text": ["one", "two"]}])
    data = CaptionedJSONL(file, 8)
    assert {data[0]["txt"] for _ in range(40)} == {"one", "two"}


def test_files_with_nothing_to_use_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected a JSONL file"):
        CaptionedJSONL(str(tmp_path / "all.jsonl"), 8)
    with pytest.raises(UserError, match="has no pictures"):
        CaptionedJSONL(lines(tmp_path / "all.jsonl", []), 8)
    with pytest.raises(UserError, match="none of 1 lines can be used: line 1"):
        CaptionedJSONL(lines(tmp_path / "all.jsonl", ["{}"]), 8)


def test_texts_come_out_of_the_shared_array_as_they_went_in():
    texts = ["", "a", "猫と犬", "b" * 1000, "name \udcff"]  # the last: a file's, not UTF-8
    kept = Strings(texts)
    assert list(kept) == texts
    with pytest.raises(IndexError):
        kept[len(texts)]
