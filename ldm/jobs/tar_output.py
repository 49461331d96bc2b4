"""WebDataset shards: tar files of pictures with captions, as ``ldm.data.shards`` reads them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import BinaryIO

from ldm.jobs.shard_output import ShardOutput
from ldm.jobs.written import Drawn, caption


class TarOutput(ShardOutput):
    """Three files a picture: ``00000012.png``, ``.txt`` (its prompt) and ``.json``.

    The JSON object has "number", "digest", "prompt" and "parameters". Nothing in a shard tells when
    or by whom it was made: equal pictures in equal order are equal bytes.
    """

    ending = "tar"
    _file: BinaryIO | None = None
    _tar: tarfile.TarFile | None = None

    def _begin(self, path: Path) -> None:
        self._file = path.open("xb")
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)

    def _write(self, job: Drawn, data: bytes, parameters: str) -> int:
        key, prompt = f"{job.number:08d}", caption(job)
        about = {
            "number": job.number,
            "digest": job.digest,
            "prompt": prompt,
            "parameters": parameters,
        }
        offset = self._add(f"{key}.png", data)
        self._add(f"{key}.txt", prompt.encode("utf-8", "replace"))
        self._add(f"{key}.json", json.dumps(about).encode("ascii"))
        return offset

    def _add(self, name: str, data: bytes) -> int:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), 0o644
        self._tar.addfile(entry, io.BytesIO(data))
        return self._tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE

    def _end(self) -> None:
        self._tar.close()
        self._file.close()

    def _let_go(self) -> None:
        self._file.close()
