"""What a run's books cost: writing a picture with its record, and reading a manifest at a start.

No model takes part: pictures are random bytes. The place is a folder on this machine's disk, where
every picture and every record is flushed.

    python benchmarks/manifest.py
    python benchmarks/manifest.py --records 10000000 --folder /mnt/nfs/measured
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import reports  # noqa: E402
from benchmarks.startup import peak_memory  # noqa: E402
from ldm.processor import cores, cpu_name  # noqa: E402

AT_ONCE = 10_000  # records of one append, where a manifest is only made to be read


class _Job(NamedTuple):
    number: int
    digest: str
    values: dict[str, Any]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--records", type=int, default=1_000_000, help="of a manifest (default: %(default)s)")
    add("--pictures", type=int, default=1000, help="written in each format (default: %(default)s)")
    add("--size", type=int, default=8_000, help="bytes of a picture (default: %(default)s)")
    add("--folder", type=Path, help="where to measure (default: the system's temporary folder)")
    add("--save", metavar="NAME", help="also write results/manifest-NAME.md")
    args = parser.parse_args(argv)
    if min(args.records, args.pictures, args.size) < 1:
        parser.error("--records, --pictures and --size go from 1")
    return args


def reading(folder: Path, records: int) -> list[str]:
    """Write a manifest and read it; return rows of the table."""
    from ldm.jobs.manifest import Manifest, ManifestWriter, Record
    from ldm.jobs.records import picture_name
    from ldm.jobs.store import open_store

    store, digest = open_store(folder), hashlib.sha256(b"a picture").hexdigest()
    with ManifestWriter(store, "worker-0") as writer:
        for start in range(0, records, AT_ONCE):
            some = range(start, min(records, start + AT_ONCE))
            made = (
                Record(n, digest, picture_name(n), digest, 400_000, "", 1.234, "worker-0")
                for n in some
            )
            writer.append(*made)
    size = sum((folder / name).stat().st_size for name in Manifest(store).parts())
    before, began = peak_memory(), time.perf_counter()
    done = Manifest(store).done()
    seconds, peak = time.perf_counter() - began, peak_memory() - before
    assert len(done) == records
    return [
        f"| bytes of a record on disk | {size / records:.0f} |",
        f"| bytes of a record in memory | {done.nbytes / records:.0f} |",
        f"| peak of memory while {records:,} are read, MB | {peak / 1e6:.0f} |",
        f"| seconds for that | {seconds:.1f} |",
        f"| us a record | {seconds / records * 1e6:.1f} |",
    ]


def writing(folder: Path, format: str, pictures: int, size: int) -> str:
    """Write pictures one after the other; return a row of the table."""
    from ldm.jobs.manifest import ManifestWriter
    from ldm.jobs.output import open_output
    from ldm.jobs.store import open_store

    store, data = open_store(folder), os.urandom(size)
    digest = hashlib.sha256(data).hexdigest()
    with ManifestWriter(store, "worker-0") as writer:
        output = open_output(format, store, writer)
        began = time.perf_counter()
        for number in range(pictures):
            output.add(_Job(number, digest, {"prompt": "a red apple"}), data, "Steps: 50")
        output.close()
        seconds = time.perf_counter() - began
    return f"| ms a picture of {size:,} bytes, {format} | {seconds / pictures * 1e3:.2f} |"


def main(argv: Sequence[str] | None = None) -> list[str]:
    """Measure, and print a table; return its lines."""
    args = parse_args(argv)
    from ldm.jobs.output import OUTPUTS

    work = Path(tempfile.mkdtemp(prefix="manifest-", dir=args.folder))
    try:
        rows = reading(work / "read", args.records)
        rows += [writing(work / each, each, args.pictures, args.size) for each in OUTPUTS]
    finally:
        shutil.rmtree(work)
    lines = [
        f"- hardware: {cpu_name()}, {cores()} cores; Python {platform.python_version()}",
        f"- command: `python benchmarks/manifest.py --records {args.records} --pictures "
        f"{args.pictures} --size {args.size}`",
        "",
        "| what | |",
        "|---|---|",
        *rows,
    ]
    save = f"manifest-{args.save}" if args.save else None
    reports.tell(lines, "A manifest read and written", save)
    return lines


if __name__ == "__main__":
    main()
