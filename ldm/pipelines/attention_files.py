"""The files of attention maps: their names, and a folder in which nothing is ever replaced.

Names are those of the first fork that saved maps, whose viewers then read them:
``down_time0981_res064_num001.npy`` (also ``up``) and ``middle_time0981_res008.npy``. ``time`` is
the model's time at the step, ``res`` the map's side, ``num`` the block in ``input_blocks`` or
``output_blocks`` that the layer belongs to. That fork knew square maps, whole times and one layer
in a block. Others are named on: ``res064x096`` is height and width, ``time0312.415`` a time between
two training steps, and the second layer of a block ends in ``_layer001``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from ldm.atomic import replacing
from ldm.errors import UserError
from ldm.modules.attention_control.sites import Site
from ldm.modules.attention_control.words import TokenizedPrompt
from ldm.paths import ERRORS, PathLike, exists, reason

MAPS = "crossatt"
MEANS = "maps.npz"
_PLACES = {"down": "down", "mid": "middle", "up": "up"}


class MapNames:
    """Names of the files of a UNet's layers.

    Args:
        sites: The layers of cross-attention, in the order in which they compute.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self._ends: dict[str, str] = {}
        blocks: dict[tuple[str, ...], int] = {}
        for site in sites:
            block = tuple(site.path.split(".")[: 1 if site.place == "mid" else 2])
            layer = blocks[block] = blocks.get(block, -1) + 1
            number = "" if site.place == "mid" else f"_num{int(block[1]):03d}"
            self._ends[site.path] = number + (f"_layer{layer:03d}" if layer else "")

    def name(self, site: Site, time: float) -> str:
        """Return the name of a layer's file at a model time."""
        when = f"{int(time):04d}" if time == int(time) else f"{time:08.3f}"
        return f"{_PLACES[site.place]}_time{when}_{res(site.side)}{self._ends[site.path]}.npy"


def res(side: tuple[int, int]) -> str:
    """Return how names say a map's sides.

    Example:
        >>> res((16, 16)), res((64, 96))
        ('res016', 'res064x096')
    """
    h, w = side
    return f"res{h:03d}" if h == w else f"res{h:03d}x{w:03d}"


class MapFolder:
    """Where a run's maps go: the wanted folder, or its first sibling that holds no maps yet.

    Args:
        wanted: What ``--save_attn_dir`` says.
    """

    def __init__(self, wanted: PathLike) -> None:
        path = Path(wanted)
        self.wanted = path if path.name not in ("", "..") else Path(os.path.abspath(path))
        self.path = next(each for each in self._siblings() if not _is_taken(each))
        self._claimed = False

    def _siblings(self) -> Iterator[Path]:
        yield self.wanted
        for number in itertools.count(2):
            yield self.wanted.with_name(f"{self.wanted.name}-{number}")

    def claim(self) -> Path:
        """Return the folder, made so that no other run takes it.

        Raises:
            UserError: It cannot be made.
        """
        if not self._claimed:
            self.path = next(each for each in self._siblings() if _is_made(each))
            self._claimed = True
        return self.path

    def of(self, batch: int, prompt: str) -> Path:
        """Return the folder of a prompt in a batch; ``prompt`` is empty for the main one."""
        return self.claim() / (f"batch{batch:04d}" if batch else "") / prompt


def _is_taken(folder: Path) -> bool:
    return exists(folder / MAPS) or exists(folder / MEANS)


def _is_made(folder: Path) -> bool:
    """Make the folder of maps in a run's folder unless somebody has it; say whether."""
    if _is_taken(folder):
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MAPS).mkdir()
    except FileExistsError:
        if exists(folder / MAPS):
            return False
        raise UserError(
            f"--save_attn_dir {folder} is a file; expected a folder; give another"
        ) from None
    except ERRORS as error:
        raise UserError(
            f"--save_attn_dir {folder} cannot be made ({reason(error)}); give another"
        ) from error
    return True


def save_maps(maps: np.ndarray, path: Path) -> None:
    """Write maps (n, h, w, L) to a file that appears whole.

    Raises:
        UserError: It cannot be written.
    """
    with _whole(path) as file:
        np.save(file, maps, allow_pickle=False)


def save_means(
    means: Mapping[str, np.ndarray], prompt: TokenizedPrompt, steps: int, path: Path
) -> None:
    """Write mean maps, and what is needed to read them, to a file that appears whole.

    Beside the maps there are ``steps``, ``prompt`` and, for each of the L tokens, ``ids`` and
    ``tokens``, the text that it stands for; ``words`` and ``word_tokens`` (words, L), which tokens
    are a word's. ``numpy.load`` reads them without pickle.

    Args:
        means: Name to maps (n, h, w, L).
        prompt: What L counts the tokens of.
        steps: How many they are the mean of.
        path: The file.

    Raises:
        UserError: It cannot be written.
    """
    words = prompt.words()
    marked = np.zeros((len(words), prompt.length), bool)
    for row, word in zip(marked, words, strict=True):
        row[list(word.positions)] = True
    texts = [prompt.text[slice(*span)] if span else "" for span in prompt.spans]
    described = {
        "steps": np.array(steps),
        "prompt": np.array(prompt.text),
        "ids": np.array(prompt.ids),
        "tokens": np.array(texts, dtype=np.str_),
        "words": np.array([word.text for word in words], dtype=np.str_),
        "word_tokens": marked,
    }
    with _whole(path) as file:
        np.savez(file, allow_pickle=False, **means, **described)


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    try:
        with replacing(path) as part, part.open("wb") as file:
            yield file
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({reason(error)}); make room, or give another "
            "--save_attn_dir"
        ) from error
