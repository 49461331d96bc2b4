"""The result of an evaluation: scores and the picture sets behind them, as a table and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ldm.atomic import replacing
from ldm.data.picture_set import PictureSet
from ldm.errors import UserError
from ldm.paths import ERRORS, file_writing_fault, reason

BETTER = {
    "fid": "lower",
    "kid": "lower",
    "psnr": "higher",
    "ssim": "higher",
    "lpips": "lower",
    "clip": "higher",
}


@dataclass(frozen=True)
class Score:
    """One number.

    Attributes:
        metric: Its name.
        value: The value, or the mean of several.
        spread: The standard deviation of several; None for a single value.
        pictures: Number of pictures of the judged set, or of pairs, behind it.
        how: What it was computed with.
    """

    metric: str
    value: float
    spread: float | None
    pictures: int
    how: str


@dataclass
class Report:
    """The result of an evaluation.

    Attributes:
        scores: In the order asked for.
        sets: Path, counts and sizes of each folder.
        warnings: Caveats, one sentence each.
    """

    scores: list[Score] = field(default_factory=list)
    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Add a warning."""
        self.warnings.append(text)

    def describe(self, pictures: PictureSet) -> None:
        """Add what is known of a folder."""
        self.sets[pictures.flag.removeprefix("--")] = {
            "folder": str(pictures.folder),
            "pictures": len(pictures.names),
            "unreadable": len(pictures.unreadable),
            "sizes": pictures.sizes_in_words(),
        }
        if notice := pictures.notice():
            self.warn(notice)

    def table(self) -> str:
        """Return the scores as lines of text, with the folders above them."""
        lines = [_line_on(name, about) for name, about in self.sets.items()]
        rows = [("metric", "value", "+-", "better", "of", "computed with")]
        for score in self.scores:
            spread = "" if score.spread is None else f"{score.spread:.4g}"
            value = f"{score.value:.5g}"
            better = BETTER[score.metric]
            rows.append((score.metric, value, spread, better, str(score.pictures), score.how))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def save_json(self, path: str | Path) -> None:
        """Write everything as JSON; an infinite score is the text "inf".

        Raises:
            UserError: the file cannot be written.
        """
        scores = {score.metric: _finite(asdict(score)) for score in self.scores}
        content = {"scores": scores, "sets": self.sets, "warnings": self.warnings}
        path = Path(path)
        try:
            text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
            with replacing(path) as part:
                part.write_text(text + "\n", encoding="utf-8")
        except ERRORS as error:
            raise UserError(
                f"--json {path} cannot be written ({reason(error)}); expected a file in a folder "
                "with space; give another one"
            ) from error


def check_place(flag: str, path: str | Path | None) -> None:
    """Check that a file can be written; leaves nothing behind.

    Raises:
        UserError: it cannot.
    """
    if path is None:
        return
    if fault := file_writing_fault(path):
        raise UserError(
            f"{flag} {path} {fault}; expected a file in a folder with space; give another one"
        )


def _finite(entries: dict[str, Any]) -> dict[str, Any]:
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in entries.items()
        if key != "metric"
    }


def _line_on(name: str, about: dict[str, Any]) -> str:
    if "statistics" in about:
        return f"{name}: statistics {about['statistics']}"
    bad = f", {about['unreadable']} unreadable" if about["unreadable"] else ""
    return f"{name}: {about['folder']}: {about['pictures']} pictures{bad}, {about['sizes']}"
