"""A run's folder of samples, laid out as in the reference.

    LOGDIR/samples/<global_step>/<date>/img/sample_000000.png ...
                                       /numpy/<N>x<H>x<W>x<C>-samples.npz
                                       /sampling_config.yaml

The array holds the pictures in their order; it is made of the files, so that a run of any length
needs no memory for it, and one that was interrupted or continued has it too.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ldm.atomic import replacing
from ldm.errors import UserError
from ldm.images.io import next_index, open_image, save_picture
from ldm.paths import ERRORS, MISSING, folder_fault, is_file, is_folder, listing, reason
from ldm.yaml_files import read_record

PATTERN = "sample_{:06d}.png"
CONFIG = "sampling_config.yaml"


class SampleFolder:
    """Where samples go; folders are made with the first file.

    Args:
        folder: The run's, with the date as its name.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.img, self.numpy = self.folder / "img", self.folder / "numpy"

    @classmethod
    def new(cls, logdir: str | Path, global_step: int) -> SampleFolder:
        """Make a folder for a new run, named by the time, under a model's or run's folder.

        Raises:
            UserError: The disk refuses.
        """
        now = datetime.now().strftime("%Y-%m-%d-%H-%M-%S")
        above = Path(logdir) / "samples" / f"{global_step:08}"
        for number in count(1):
            folder = above / (now if number == 1 else f"{now}-{number}")
            try:
                folder.mkdir(parents=True)
                return cls(folder)
            except FileExistsError as error:
                if not is_folder(folder):
                    raise _refused(folder, error) from error
            except ERRORS as error:
                raise _refused(folder, error) from error
        raise AssertionError("counting ends with a return")

    def next_number(self) -> int:
        """Return the number after the highest picture's."""
        return next_index(self.img, PATTERN)

    def pictures(self) -> dict[int, Path]:
        """Return the pictures there are, by their numbers, in order."""
        names = [path.name for path in listing(self.img)]
        found = {int(m[1]): m[0] for n in names if (m := re.fullmatch(r"sample_(\d{6,})\.png", n))}
        return {number: self.img / found[number] for number in sorted(found)}

    def save(self, picture: np.ndarray, number: int) -> None:
        """Write a picture, uint8 (H, W, 3), under its number.

        Raises:
            UserError: The number is taken, or the disk refuses.
        """
        save_picture(picture, self.img / PATTERN.format(number))

    def write_config(self, values: Mapping[str, Any]) -> None:
        """Write down what the samples are drawn with.

        Raises:
            UserError: The disk refuses.
        """
        try:
            text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
            with replacing(self.folder / CONFIG) as part:
                part.write_text(text, encoding="utf-8")
        except OSError as error:
            raise _refused(self.folder, error) from error

    def read_config(self) -> dict[str, Any]:
        """Read what ``write_config`` wrote.

        Raises:
            UserError: The folder is not one of samples.
        """
        path = self.folder / CONFIG
        if not is_file(path):
            fault = folder_fault(self.folder)
            why = "" if fault in (None, MISSING) else f" (the folder {fault})"
            raise UserError(
                f"--continue {self.folder}: {CONFIG} is not there{why}; expected the folder of an "
                "earlier run, LOGDIR/samples/STEP/DATE; check the path"
            )
        return read_record(path)

    def write_array(self, label: Callable[[int], int] | None = None) -> Path | None:
        """Write all pictures as one array in place of an earlier one; None if there are none.

        Args:
            label: Gives a picture's class by its number; the classes are then the second array.

        Raises:
            UserError: The disk refuses, or pictures differ in size.
        """
        pictures = self.pictures()
        if not pictures:
            return None
        labels = None if label is None else [label(number) for number in pictures]
        shape = (len(pictures), *_pixels(next(iter(pictures.values()))).shape)
        path = self.numpy / f"{'x'.join(map(str, shape))}-samples.npz"
        try:
            with replacing(path) as part:
                _write_npz(part, list(pictures.values()), labels, shape)
            for earlier in listing(self.numpy, "*-samples.npz"):
                if earlier != path:
                    earlier.unlink()
        except OSError as error:
            raise _refused(self.numpy, error) from error
        return path


def _write_npz(
    path: Path, pictures: Sequence[Path], labels: Sequence[int] | None, shape: tuple[int, ...]
) -> None:
    """Write uint8 (N, H, W, 3) as ``arr_0``, one picture in memory at a time."""
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as entry:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(entry, header)
            for picture in pictures:
                pixels = _pixels(picture)
                if pixels.shape != shape[1:]:
                    raise UserError(
                        f"{picture} is of another size than {pictures[0].name}; expected pictures "
                        "of one size in a folder; move it away"
                    )
                entry.write(pixels.tobytes())
        if labels is not None:
            with archive.open("arr_1.npy", "w") as entry:
                np.lib.format.write_array(entry, np.asarray(labels, dtype=np.int64))


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(open_image(path).convert("RGB"))


def _refused(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"{folder} cannot be written to ({reason(error)}); expected a folder with space; "
        "give another --logdir"
    )
