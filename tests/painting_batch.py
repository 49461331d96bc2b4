"""scripts/batch.py whose workers paint instead of drawing: processes that start at once."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from batch_workers import PaintingWorker

from ldm.jobs.engines import local
from ldm.programs.batch import BatchProgram
from ldm.programs.start import leave

if __name__ == "__main__":
    local.run = partial(local.run, make_worker=PaintingWorker)
    leave(BatchProgram("Paint.").main())
