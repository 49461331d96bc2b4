"""A folder of pictures and masks, as the reference's inpainting takes them: X.png and X_mask.png.

Everything that can be wrong with a pair is reported before the first one is drawn. Imports no
torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ldm.errors import UserError
from ldm.images.io import save_picture
from ldm.paths import exists, folder_fault, is_file, listing
from ldm.pipelines.progress import Picture
from ldm.programs.output import OutputFolder

MASK_ENDING = "_mask"
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MOST_NAMED = 3  # files that a message names


@dataclass(frozen=True)
class Pair:
    """A picture's file and its mask's.

    Attributes:
        picture: What to repaint.
        mask: Where.
    """

    picture: Path
    mask: Path


def find_pairs(folder: str | Path) -> list[Pair]:
    """List the pairs of a folder in the order of their names.

    Masks are PNG files as in the reference; pictures may be JPEG or WebP files as well.

    Raises:
        UserError: no such folder, no pairs in it, or a file without its partner.
    """
    folder = Path(folder)
    if fault := folder_fault(folder):
        raise UserError(
            f"--indir {folder} {fault}; expected a folder of pictures X.png and masks "
            f"X{MASK_ENDING}.png; check the path"
        )
    files = [each for each in listing(folder) if is_file(each) and _is_picture(each)]
    masks = {each.stem: each for each in files if _is_mask(each)}
    pictures = [each for each in files if not _is_mask(each)]
    if not files:
        raise UserError(
            f"--indir {folder} holds no pictures; expected pairs X.png and X{MASK_ENDING}.png; "
            "give another folder"
        )
    _check_partners(folder, pictures, masks)
    return [Pair(each, masks[each.stem + MASK_ENDING]) for each in pictures]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and not path.name.startswith(".")


def _is_mask(path: Path) -> bool:
    return path.suffix.lower() == ".png" and path.stem.endswith(MASK_ENDING)


def _check_partners(folder: Path, pictures: list[Path], masks: dict[str, Path]) -> None:
    stems = [each.stem for each in pictures]
    alone = [each.name for each in pictures if each.stem + MASK_ENDING not in masks]
    alone += [
        each.name for each in masks.values() if each.stem.removesuffix(MASK_ENDING) not in stems
    ]
    if alone:
        raise UserError(
            f"--indir {folder}: no partner for {_named(alone)}; expected a mask "
            f"X{MASK_ENDING}.png for each picture X.png; add what is missing, or remove them"
        )
    twice = [each.name for each in pictures if stems.count(each.stem) > 1]
    if twice:
        raise UserError(
            f"--indir {folder}: {_named(twice)} would become the same file; expected one picture "
            "per name; rename one"
        )


def _named(names: Sequence[str]) -> str:
    rest = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


class PairedOutput(OutputFolder):
    """Where the pictures of a folder of pairs go: under their original names.

    Nothing is ever replaced: a name in use is reported before anything is drawn.

    Args:
        folder: The run's ``outdir``.
        format: ``png`` or ``jpg``.
        pairs: What is drawn.
        each: Pictures made of each pair: a single one is X.png, several are X_00000.png, ...

    Attributes:
        pair: What is being drawn.
    """

    def __init__(self, folder: str | Path, format: str, pairs: Iterable[Pair], each: int) -> None:
        super().__init__(folder, format)
        self._pairs, self._each = list(pairs), each
        self.pair = next(iter(self._pairs))

    def path(self, pair: Pair, number: int) -> Path:
        """Return where one of a pair's pictures goes; ``number`` counts from 0."""
        stem = pair.picture.stem if self._each == 1 else f"{pair.picture.stem}_{number:05d}"
        return self.folder / f"{stem}.{self.format}"

    def check(self, prompts: Sequence[str] = ()) -> None:
        """Check that files can be written and that no name is taken, leaving no trace.

        Args:
            prompts: Those of the run.

        Raises:
            UserError: a folder is a file or is not writable, or a name is taken.
        """
        super().check(prompts)
        paths = [self.path(pair, k) for pair in self._pairs for k in range(self._each)]
        taken = [path.name for path in paths if exists(path)]
        taken += [path.name for path, count in Counter(paths).items() if count > 1]
        if taken:
            raise UserError(
                f"--outdir {self.folder}: already in use: {_named(taken)}; expected free names, as "
                "pictures are never replaced; give another folder, or move them away"
            )

    def take(self, picture: Picture, *, save: bool = True, keep: bool = False) -> None:  # noqa: ARG002
        """Write a picture of ``pair`` with its parameters; there are no grids.

        Raises:
            UserError: the file cannot be written, or the name was taken in the meantime.
        """
        path = self.path(self.pair, picture.place.index)
        self.saved.append(save_picture(picture.whole, path, metadata=picture.parameters))
