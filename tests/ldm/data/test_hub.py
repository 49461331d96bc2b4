"""Data sets of Hugging Face's library: read from the disk, whatever form they were saved in."""

from __future__ import annotations

import io
import json
import socket

import pytest
from PIL import Image
from small_pictures import break_files, noise, save

from ldm.data.hub import CaptionedDataset
from ldm.errors import UserError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Refuse every connection, and keep the library's cache in the test's folder."""

    def refuse(*_, **__):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(16, 20, seed)).save(buffer, "PNG")
    return buffer.getvalue()


def rows(pictures=None, texts=("zero", "one", "two")):
    pictures = pictures or [{"bytes": picture(k), "path": None} for k in range(3)]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    return datasets.Dataset.from_dict({"image": pictures, "text": list(texts)}, features)


def texts(data) -> list[str]:
    return [item["txt"] for item in data]


def test_a_saved_data_set_is_read(tmp_path):
    rows().save_to_disk(tmp_path / "saved")
    data = CaptionedDataset(str(tmp_path / "saved"), 8, flip_p=0.5)
    assert texts(data) == ["zero", "one", "two"]
    assert data[0]["jpg"].shape == (8, 8, 3)


def test_a_split_of_several_is_chosen(tmp_path):
    parts = {"train": rows(), "test": rows().select([1])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert len(CaptionedDataset(str(tmp_path / "saved"), 8)) == 3
    assert texts(CaptionedDataset(str(tmp_path / "saved"), 8, split="test")) == ["one"]
    with pytest.raises(UserError, match="has no split 'val'; it has train, test"):
        CaptionedDataset(str(tmp_path / "saved"), 8, split="val")


def test_parquet_files_are_read_alone_and_by_the_folder(tmp_path):
    (tmp_path / "data").mkdir()
    rows().to_parquet(tmp_path / "data" / "train-0.parquet")
    rows().select([0]).to_parquet(tmp_path / "data" / "test-0.parquet")
    assert len(CaptionedDataset(str(tmp_path / "data" / "train-0.parquet"), 8)) == 3
    assert len(CaptionedDataset(str(tmp_path / "data"), 8)) == 3
    assert len(CaptionedDataset(str(tmp_path / "data"), 8, split="test")) == 1


def test_an_image_folder_with_its_list_is_read(tmp_path):
    folder = tmp_path / "pictures"
    for k in range(2):
        save(folder / f"{k}.png", seed=k)
    lines = [json.dumps({"file_name": f"{k}.png", "text": f"picture {k}"}) for k in range(2)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    assert sorted(texts(CaptionedDataset(str(folder), 8))) == ["picture 0", "picture 1"]


def test_columns_can_have_any_names_and_hold_bytes_paths_and_lists(tmp_path):
    save(tmp_path / "saved" / "a.png")
    columns = {"file": ["a.png"], "raw": [picture(0)], "captions": [["one", "two"]]}
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "saved")
    for image_column in ("file", "raw"):
        data = CaptionedDataset(
            str(tmp_path / "saved"), 8, image_column=image_column, text_column="captions"
        )
        assert {data[0]["txt"] for _ in range(40)} == {"one", "two"}
    with pytest.raises(UserError, match="has no column 'image'; it has file, raw, captions"):
        CaptionedDataset(str(tmp_path / "saved"), 8)


def test_bad_rows_are_left_out(tmp_path):
    contents = [path.read_bytes() for path in break_files(tmp_path) if path.exists()]
    pictures = [{"bytes": content, "path": None} for content in [picture(0), *contents]]
    rows([*pictures, None, pictures[0]], ["good", *"abcd", "none", None]).save_to_disk(
        tmp_path / "saved"
    )
    data = CaptionedDataset(str(tmp_path / "saved"), 8)
    assert set(texts(data)) == {"good"}
    assert data.bad_items.count == 6


def test_what_is_no_data_set_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        CaptionedDataset(str(tmp_path / "nowhere"), 8)
    (tmp_path / "a.csv").write_text("a,b")
    with pytest.raises(UserError, match="cannot be read as a data set") as error:
        CaptionedDataset(str(tmp_path / "a.csv"), 8)
    assert "\n" not in str(error.value)
