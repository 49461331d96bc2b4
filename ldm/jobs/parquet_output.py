"""Parquet files of pictures with captions, as ``ldm.data.hub`` and others read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ldm.errors import UserError
from ldm.jobs.base import Store
from ldm.jobs.manifest import ManifestWriter
from ldm.jobs.shard_output import ShardOutput
from ldm.jobs.written import Drawn, caption

ROWS = 64  # in a group: what a reader holds in memory at once


class ParquetOutput(ShardOutput):
    """Columns "image" (bytes and path), "text" (the prompt), "number", "digest", "parameters".

    Args:
        store: The place.
        writer: This worker's part of the manifest.
        **options: As for ``ShardOutput``.

    Raises:
        UserError: pyarrow is not installed.
    """

    ending = "parquet"
    _file: Any = None

    def __init__(self, store: Store, writer: ManifestWriter, **options: Any) -> None:
        super().__init__(store, writer, **options)
        self._arrow, self._parquet = arrow()
        self._schema = _schema(self._arrow)
        self._rows: list[dict[str, Any]] = []
        self._written = 0

    def _begin(self, path: Path) -> None:
        # PNG files do not get smaller, no two are equal, and the least of them says nothing.
        self._file = self._parquet.ParquetWriter(
            str(path),
            self._schema,
            compression="NONE",
            use_dictionary=False,
            write_statistics=["number"],
        )
        self._rows, self._written = [], 0

    def _write(self, job: Drawn, data: bytes, parameters: str) -> int:
        name = f"{job.number:08d}.png"
        self._rows.append(
            {
                "image": {"bytes": data, "path": name},
                "text": _writable(caption(job)),
                "number": job.number,
                "digest": job.digest,
                "parameters": _writable(parameters),
            }
        )
        if len(self._rows) == ROWS:
            self._write_rows()
        return self._written + len(self._rows) - 1

    def _write_rows(self) -> None:
        table = self._arrow.Table.from_pylist(self._rows, self._schema)
        self._file.write_table(table)
        self._written += len(self._rows)
        self._rows = []

    def _end(self) -> None:
        if self._rows:
            self._write_rows()
        self._file.close()

    def _let_go(self) -> None:
        self._file.close()


def arrow() -> tuple[Any, Any]:
    """Import pyarrow and its reader and writer of Parquet.

    Raises:
        UserError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Parquet needs pyarrow, which is not installed; expected it beside this program; run: "
            'pip install -e ".[scale]"'
        ) from error
    return pyarrow, pyarrow.parquet


def _schema(pyarrow: Any) -> Any:
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    texts = ("text", "digest", "parameters")
    # By this the datasets library, and viewers that use it, know which column is a picture.
    features: dict[str, Any] = {name: {"dtype": "string", "_type": "Value"} for name in texts}
    features |= {"image": {"_type": "Image"}, "number": {"dtype": "int64", "_type": "Value"}}
    fields = [("image", image), ("text", pyarrow.string()), ("number", pyarrow.int64())]
    fields += [("digest", pyarrow.string()), ("parameters", pyarrow.string())]
    known = {"info": {"features": {name: features[name] for name, _ in fields}}}
    return pyarrow.schema(fields, metadata={"huggingface": json.dumps(known)})


def _writable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
