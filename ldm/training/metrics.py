"""Write ``metrics.csv``: every logged figure by step, continued when a run is resumed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from ldm.atomic import replacing
from ldm.paths import exists


class MetricsFile(Logger):
    """Append rows to ``<folder>/metrics.csv``; columns are added as figures appear.

    Lightning's own CSV logger deletes the file of an earlier run in the same folder.

    Args:
        save_dir: The run's folder.
    """

    def __init__(self, save_dir: str | Path):
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        """Name of the kind of log."""
        return "csv"

    @property
    def version(self) -> str:
        """The version: a run has one file, so only one."""
        return ""

    @property
    def log_dir(self) -> str:
        """Folder of the file."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run's configuration is saved as YAML."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write one row; ``step`` counts optimizer steps from 0."""
        row = {"step": step, **metrics}
        if self._columns is None:
            self._rewrite(self._rows())
        if not set(row) <= set(self._columns):
            self._columns += [key for key in row if key not in self._columns]
            self._rewrite(self._rows())
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    @rank_zero_only
    def forget_from(self, step: int) -> None:
        """Drop the rows of ``step`` and later, which a resumed run is about to repeat."""
        if exists(self.path):
            self._rewrite([row for row in self._rows() if int(row["step"]) < step])

    def _rows(self) -> list[dict[str, str]]:
        if not exists(self.path):
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit()]

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        columns = [*(self._columns or ["step"]), *(key for row in rows for key in row)]
        self._columns = list(dict.fromkeys(columns))
        with replacing(self.path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
