"""Captioned data sets of the Hugging Face ``datasets`` library, read from local disk only.

Items: "jpg" (H, W, 3) float32 in [-1, 1], RGB; "txt" str.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ldm.data.caption_texts import choose, joined
from ldm.data.captions import Captioned
from ldm.data.files import all_files
from ldm.data.framing import Size
from ldm.data.skipping import BadItem
from ldm.errors import UserError
from ldm.paths import at_home, is_file, unreachable


class CaptionedDataset(Captioned):
    """A data set saved by ``save_to_disk``, Parquet files, or a folder with ``metadata.jsonl``.

    Nothing is downloaded. Parquet files and image folders are converted once into the library's
    cache ($HF_DATASETS_CACHE), which takes the same disk space again.

    Args:
        path: Folder of ``save_to_disk``; a .parquet file or a folder of them; an image folder.
        size: Side in pixels, or [height, width].
        image_column: Column of pictures: the library's images, bytes, or file paths.
        text_column: Column of captions, or of lists to choose from at random each time.
        split: Which part, if there are several.
        **options: ``random_crop``, ``flip_p``, ``interpolation``: see ``ldm.data.captions``.

    Raises:
        UserError: The library is not installed, ``path`` is none of these, a column or the split is
            missing, or nothing can be read.
    """

    def __init__(
        self,
        path: str,
        size: Size,
        *,
        image_column: str = "image",
        text_column: str = "text",
        split: str = "train",
        **options: Any,
    ):
        self.image_column, self.text_column = image_column, text_column
        self.root = at_home(path)
        rows = _open(self.root, split)
        for column in (image_column, text_column):
            if column not in rows.column_names:
                raise UserError(
                    f"{path} has no column {column!r}; it has {', '.join(rows.column_names)}; "
                    "set image_column and text_column"
                )
        # Separate, so that reading a caption does not read the picture.
        self.pictures = _undecoded(rows.select_columns([image_column]), image_column)
        self.texts = rows.select_columns([text_column])
        super().__init__(len(rows), size, source=str(path), **options)

    def picture(self, index: int) -> tuple[Path | bytes, str]:
        """Return a picture's bytes, or its path.

        Raises:
            BadItem: The row has none.
        """
        value, name = self.pictures[index][self.image_column], f"row {index}"
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str) and value:
            folder = self.root.parent if is_file(self.root) else self.root
            return folder / value, name
        if isinstance(value, bytes):
            return value, name
        raise BadItem(f"{name} has no picture in column {self.image_column!r}")

    def caption(self, index: int, rng: np.random.Generator) -> str:
        """Return a caption of an item.

        Raises:
            BadItem: The row has none.
        """
        texts = joined(self.texts[index][self.text_column])
        if texts is None:
            raise BadItem(f"row {index} has no caption in column {self.text_column!r}")
        return choose(texts, rng)


def _open(path: Path, split: str) -> Any:
    """Open a data set in the format found at its path.

    Raises:
        UserError: The format is unknown, or the data set has no such split.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f'{path} needs the datasets library, which is not installed; pip install -e ".[train]"'
        ) from error
    if fault := unreachable(path):
        raise UserError(f"{path} {fault}; expected a data set on disk; check the path")
    try:
        opened = _load(datasets, path, split)
    except Exception as error:  # the library raises many types for folders that it cannot read
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} cannot be read as a data set ({reason}); expected a folder of save_to_disk, "
            "Parquet files or an image folder; check the path"
        ) from error
    if not isinstance(opened, datasets.DatasetDict):
        return opened
    if split not in opened:
        raise UserError(f"{path} has no split {split!r}; it has {', '.join(opened)}; set split")
    return opened[split]


def _load(datasets: Any, path: Path, split: str) -> Any:
    if is_file(path / "dataset_dict.json") or is_file(path / "state.json"):
        return datasets.load_from_disk(str(path))
    files = [path] if is_file(path) else _parquet_below(path)
    named = [file for file in files if file.name.startswith(f"{split}-")] or files
    if files and all(_is_parquet(file) for file in files):
        parts = {split: [str(file) for file in named]}
        return datasets.load_dataset("parquet", data_files=parts)
    return datasets.load_dataset("imagefolder", data_dir=str(path))


def _parquet_below(folder: Path) -> list[Path]:
    return [folder / name for name in sorted(all_files(folder)) if _is_parquet(name)]


def _is_parquet(name: str | Path) -> bool:
    return Path(name).suffix.lower() == ".parquet"


def _undecoded(rows: Any, column: str) -> Any:
    """Make an image column return undecoded files, so that a damaged one is only one bad item."""
    import datasets

    if isinstance(rows.features[column], datasets.Image):
        return rows.cast_column(column, datasets.Image(decode=False))
    return rows
