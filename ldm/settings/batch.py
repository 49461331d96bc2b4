"""What a user can choose about a run that draws a whole file of jobs. Imports no torch.

    python scripts/batch.py JOBS --out FOLDER

The flags that say how to draw hold for every line that does not say otherwise; those of the model
hold for the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ldm.errors import UserError
from ldm.settings.generation import (
    DRAWING_GROUPS,
    LONGEST_RUN,
    GenerationSettings,
    Img2ImgSettings,
    Txt2ImgSettings,
)
from ldm.settings.option import REQUIRED, changed, option

ENGINES = ("local", "torchrun", "ray")
OUTPUTS = ("folder", "webdataset", "parquet")
MOST_WORKERS = 4096
MOST_ROWS = 4096
LAST_NUMBER = 10**12


@dataclass(frozen=True, kw_only=True)
class BatchSettings(GenerationSettings):
    """Settings of ``scripts/batch.py``.

    Attributes:
        from_file: No flag here, like those after it: JOBS takes their place, or the manifest.

    Example:
        >>> BatchSettings(jobs="prompts.txt", out="pictures").batch_size
        4
    """

    program: ClassVar[str] = "batch"
    groups: ClassVar[Mapping[str, str]] = {"run": "the run", **DRAWING_GROUPS}

    jobs: str | None = option(
        None,
        "the jobs: .txt with a prompt on each line, or .csv, .jsonl or .parquet whose columns are "
        "settings such as prompt, negative_prompt, seed, ddim_steps, W, H, init_img, mask, lora",
        str,
        positional=True,
        metavar="FILE",
        group="run",
    )
    out: str = option(
        REQUIRED,
        "where the pictures and the run's manifest go: a folder, or an address such as "
        "s3://bucket/run; a run that was begun there is continued",
        str,
        metavar="FOLDER",
        group="run",
    )
    engine: str = option(
        "local",
        "who gives jobs to workers: local starts processes, torchrun is for runs that torchrun "
        "starts, ray draws on a Ray cluster",
        choices=ENGINES,
        group="run",
    )
    workers: int = option(
        1,
        "how many workers; each loads the model, and has one of the GPUs if there are several",
        minimum=1,
        maximum=MOST_WORKERS,
        group="run",
    )
    threads: int = option(
        1,
        "threads that each worker computes with on a processor; another number changes the last "
        "digits of its pictures, another number of workers changes nothing",
        minimum=1,
        maximum=MOST_WORKERS,
        group="run",
    )
    batch_size: int = option(
        4,
        "the most pictures that a worker draws at a time; no picture depends on it",
        minimum=1,
        maximum=MOST_ROWS,
        group="run",
    )
    format: str = option(
        "folder",
        "folder writes PNG files, 10,000 in each folder; webdataset writes tar files and parquet "
        "tables, which this project's data sets read",
        choices=OUTPUTS,
        group="run",
    )
    shard_size: int = option(
        1000,
        "pictures in a file of --format webdataset or parquet",
        minimum=1,
        maximum=LONGEST_RUN,
        group="run",
    )
    first: int = option(
        0,
        "the number of the file's first picture: the parts of a job that is cut into several runs, "
        "to be merged later, go on counting where the part before ends",
        minimum=0,
        maximum=LAST_NUMBER,
        group="run",
    )
    skip_bad: bool = option(
        False, "draw the other lines where some cannot be drawn; the manifest has why", group="run"
    )
    redraw: bool = option(
        False,
        "draw again what is finished where its line, its settings or the model are others now, and "
        "replace it",
        group="run",
    )
    verify: bool = option(
        False,
        "check every finished picture against the manifest first, and draw again what is missing "
        "or damaged; without JOBS it is only checked",
        group="run",
    )
    merge: tuple[str, ...] = option(
        (),
        "bring the finished runs of these folders together in --out, and draw nothing",
        str,
        several="+",
        metavar="FOLDER",
        group="run",
    )
    metrics_port: int | None = option(
        None,
        "serve counters for Prometheus on this port of 127.0.0.1 while the run lasts; 0 takes a "
        "free one",
        int,
        minimum=0,
        maximum=65535,
        group="run",
    )
    ray_address: str | None = option(
        None,
        "the Ray cluster of --engine ray",
        str,
        shown="one on this machine, for this run",
        metavar="ADDRESS",
        group="run",
    )

    prompt: str | None = changed(
        GenerationSettings,
        "prompt",
        default=None,
        help="the text prompt of lines that have none",
        shown="none, each line has its own",
    )
    W: int | None = changed(Txt2ImgSettings, "W")
    H: int | None = changed(Txt2ImgSettings, "H")
    strength: float | None = changed(
        Img2ImgSettings,
        "strength",
        default=None,
        help="how much to change the picture of lines with init_img: 0 keeps it, 1 starts from "
        "noise",
        shown="0.75",
    )
    scale: float | None = changed(
        GenerationSettings, "scale", default=None, shown="7.5; 5 for lines with init_img"
    )
    watermark: str | None = changed(
        GenerationSettings,
        "watermark",
        default=None,
        shown="reference; gentle for lines with init_img",
    )
    n_iter: int = changed(
        GenerationSettings, "n_iter", default=1, help="pictures of each line, times --n_samples"
    )
    n_samples: int = changed(
        GenerationSettings,
        "n_samples",
        default=1,
        help="pictures of each line; each has a seed of its own",
    )
    seed: int = changed(
        GenerationSettings,
        "seed",
        help="for lines without a seed: picture N of the run has the seed SEED + N",
    )

    precision: str = changed(
        GenerationSettings,
        "precision",
        help="autocast computes in float16 on cuda (in float32 elsewhere); full is float32; "
        "bfloat16 and float16 are these on any device; auto is float16 on cuda, and refused on a "
        "processor, where workers could choose differently; int8 computes the denoiser's layers in "
        "8-bit integers, on processors only",
    )

    from_file: None = None
    from_image: None = None
    outdir: str = ""
    skip_grid: bool = True
    skip_save: bool = False
    n_rows: int = 0
    seed_mode: str = "per-image"
    fixed_code: bool = False
    hint_only: bool = False

    def validate(self) -> None:
        """Check as the base does, and that there is something to do.

        Raises:
            UserError: naming the flag, what it allows and what to do.
        """
        super().validate()
        if self.merge and (self.jobs is not None or self.verify):
            raise UserError(
                "--merge was given with JOBS or --verify; expected runs to bring together alone; "
                "leave the rest out, and verify afterwards"
            )
        if self.jobs is None and not (self.merge or self.verify):
            raise UserError(
                "JOBS was not given; expected a .txt, .csv, .jsonl or .parquet file; add FILE"
            )
        if self.ray_address is not None and self.engine != "ray":
            raise UserError(
                f"--ray_address {self.ray_address} was given with --engine {self.engine}; expected "
                "--engine ray beside it; add that, or leave it out"
            )

    @property
    def drawn_prompts(self) -> tuple[str, ...]:
        """None: each line has its own."""
        return ()
