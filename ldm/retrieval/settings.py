"""Settings of retrieval-augmented drawing, and the paths of its files. Imports no torch.

Retrieval-augmented diffusion: arXiv:2204.11824 and arXiv:2207.13038.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ldm.checkpoint.default_config import RETRIEVAL_CONFIG
from ldm.paths import exists, is_folder
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.model_kind import ModelKind, Task
from ldm.settings.option import Settings, changed, device_option, max_pixels_option, option

if TYPE_CHECKING:
    from typing import Self  # in typing from Python 3.11 on

DATABASES, SEARCHERS = "data/rdm/retrieval_databases", "data/rdm/searchers"
DATABASE, KNN, CLIP_TYPE = "artbench-surrealism", 10, "ViT-L/14"


@dataclass(frozen=True, kw_only=True)
class RetrievalSettings(Txt2ImgSettings):
    """Settings of text-to-image with neighbours.

    ``None`` in ``knn``, ``database`` and ``n_repeat`` stands for the default, if it has an effect.

    Example:
        >>> RetrievalSettings(prompt="a red apple", use_neighbors=True).scale
        5.0
    """

    program: ClassVar[str] = "knn2img"
    task: ClassVar[Task] = "neighbours"
    wanted: ClassVar[str] = (
        "a retrieval-augmented one, whose cond_stage_config is torch.nn.Identity"
    )
    # Another model's flag: a class variable in place of the field removes it.
    laion400m: ClassVar[bool] = False

    # The reference's program marks no pictures.
    watermark: str = changed(Txt2ImgSettings, "watermark", default="gentle")
    scale: float = changed(Txt2ImgSettings, "scale", default=5.0)
    n_iter: int = changed(Txt2ImgSettings, "n_iter", default=1)
    H: int | None = changed(Txt2ImgSettings, "H", shown="the model's own size; RDM: 768")
    W: int | None = changed(Txt2ImgSettings, "W", shown="the model's own size; RDM: 768")
    C: int | None = changed(Txt2ImgSettings, "C", shown="the model's; RDM: 16")
    f: int | None = changed(Txt2ImgSettings, "f", shown="the model's; RDM: 16")
    ckpt: str | None = changed(
        Txt2ImgSettings, "ckpt", default="models/rdm/rdm768x768/model.ckpt", shown=None
    )
    config: str | None = changed(
        Txt2ImgSettings, "config", shown=f"beside the checkpoint, else {RETRIEVAL_CONFIG}"
    )
    negative_prompt: str = changed(
        Txt2ImgSettings,
        "negative_prompt",
        help="what the pictures should not show; takes the place of the zeros in guidance",
    )
    n_repeat: int | None = option(
        None,
        "how many times the text's token is repeated",
        int,
        minimum=1,
        shown="1",
        infotext="Text tokens",
    )
    use_neighbors: bool = option(
        False,
        "condition on the text's nearest neighbours in --database too",
        infotext="Retrieval",
    )
    knn: int | None = option(
        None,
        "how many neighbours",
        int,
        minimum=1,
        shown=f"{KNN}",
        infotext="Neighbours",
    )
    database: str | None = option(
        None,
        f"a database of {DATABASES}, by name, or a folder of embeddings as "
        "scripts/train_searcher.py makes it",
        str,
        shown=DATABASE,
        infotext="Database",
        metavar="DATABASE",
    )
    searcher: str | None = option(
        None,
        "the trained searcher of --database",
        str,
        shown=f"{SEARCHERS}/NAME, else the folder searcher in --database, else an exact search",
        metavar="FOLDER",
    )
    clip_type: str = option(
        CLIP_TYPE,
        "the CLIP model that encodes texts and neighbours",
        group="model",
        infotext="CLIP",
        metavar="MODEL",
    )
    clip_ckpt: str | None = option(
        None,
        "CLIP's weights, a file or a folder: nothing is downloaded",
        str,
        shown="in the hub's caches",
        group="model",
        metavar="FILE",
    )

    def suited(self, kind: ModelKind, named: Collection[str]) -> Self:  # noqa: ARG002
        """Return these settings with defaults filled in for what has an effect."""
        if not self.use_neighbors:
            return self
        return replace(self, knn=self.knn or KNN, database=self.database or DATABASE)

    def notices(self, prompts: Sequence[str] = ()) -> list[str]:
        """List settings that have no effect given the others."""
        found = super().notices(prompts)
        for name in ("knn", "database", "searcher"):
            if getattr(self, name) is not None and not self.use_neighbors:
                found.append(f"--{name} has no effect without --use_neighbors")
        return found


@dataclass(frozen=True, kw_only=True)
class SearcherSettings(Settings):
    """Settings of ``scripts/train_searcher.py``."""

    program: ClassVar[str] = "train_searcher"

    database: str = option(
        DATABASE,
        f"a database of {DATABASES}, by name, or its folder",
        synonyms=("-d",),
        metavar="DATABASE",
    )
    max_pixels: int = max_pixels_option()
    target_path: str | None = option(
        None,
        "the folder that the searcher goes to",
        str,
        synonyms=("-t",),
        shown=f"{SEARCHERS}/NAME, or in the database's folder",
        metavar="FOLDER",
    )
    knn: int = option(20, "how many neighbours to check it with", synonyms=("-k",), minimum=1)
    index: str | None = option(
        None,
        "kind of index: every embedding, inverted lists, inverted lists over codes",
        str,
        choices=("exact", "ivf", "ivfpq"),
        shown="by size: below 20 000, below 100 000, above",
    )
    images: str | None = option(
        None, "a folder of pictures to embed into the database first", str, metavar="FOLDER"
    )
    clip_type: str = option(CLIP_TYPE, "the CLIP model that embeds pictures", metavar="MODEL")
    clip_ckpt: str | None = option(
        None, "CLIP's weights", str, shown="those in the hub's caches", metavar="FILE"
    )
    batch_size: int = option(64, "pictures at a time", minimum=1)
    device: str = device_option()


def database_path(name: str) -> Path:
    """Return a database's path: the folder of that name if it exists, else the usual place.

    Example:
        >>> database_path("artbench-baroque").parts[-2:]
        ('retrieval_databases', 'artbench-baroque')
    """
    return Path(name) if exists(name) or _is_path(name) else Path(DATABASES) / name


def searcher_path(name: str) -> Path:
    """Return the path of a database's searcher.

    Example:
        >>> searcher_path("artbench-baroque").parts[-2:]
        ('searchers', 'artbench-baroque')
    """
    path = database_path(name)
    if path.parent == Path(DATABASES):
        return Path(SEARCHERS) / path.name
    return path / "searcher" if is_folder(path) else path.with_suffix(".searcher")


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or name.lower().endswith(".npz")
