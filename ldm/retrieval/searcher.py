"""Find nearest neighbours in a database of embeddings, exactly or with a trained index.

Similarity is the cosine, which is the inner product because all embeddings have unit length. The
size N of the database decides which index is used:

    exact   every embedding is compared; below 20 000
    ivf     inverted lists: those of the nearest sqrt(N)/20 of sqrt(N) cells are compared
    ivfpq   the same with product-quantised embeddings, in 16 times less memory; from 100 000 on

Candidates of the last two are compared again by their exact embeddings. The search uses the faiss
library; without it scikit-learn, exactly. Imports no torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ldm.data.retrieval import RetrievalDatabase
from ldm.errors import UserError

KINDS = ("exact", "ivf", "ivfpq")
FEWEST_FOR_LISTS, FEWEST_FOR_CODES = 20_000, 100_000  # embeddings
CANDIDATES = 10  # compared exactly for each neighbour asked for
INDEX, RECORD = "index.faiss", "searcher.json"
_EQUAL = 1e-5  # of the largest similarity: rounding in the order of summation
POINTS_PER_CENTROID = 39  # below that faiss warns that clusters are not well trained


class Index(Protocol):
    """Finds candidates.

    Attributes:
        library: Name of the library that made it.
    """

    library: str

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Return the rows (B, k) that are nearest to queries (B, D); -1 where there are fewer."""


@dataclass(frozen=True)
class SearcherRecord:
    """What a trained searcher's folder says about it.

    Attributes:
        kind: One of ``KINDS``.
        count: Embeddings in the database, N.
        width: D.
        checksum: The database's, so that a searcher is not used with another one.
    """

    kind: str
    count: int
    width: int
    checksum: str


class Searcher:
    """Finds the nearest neighbours of embeddings in a database.

    Args:
        database: Where to search.
        index: Finds candidates.
        kind: What the index is: one of ``KINDS``.
    """

    def __init__(self, database: RetrievalDatabase, index: Index, kind: str) -> None:
        self.database, self.index, self.kind = database, index, kind

    @property
    def library(self) -> str:
        """Name of the library that searches."""
        return self.index.library

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows (B, k) of the nearest embeddings, nearest first, and their similarities.

        Args:
            queries: (B, D) float of unit length.
            k: Neighbours of each.

        Raises:
            UserError: the database has fewer embeddings, or their width differs.
        """
        self.check_width(queries.shape[1])
        check_count(self.database, k)
        wanted = k if self.kind == "exact" else min(CANDIDATES * k, len(self.database))
        rows = self.index.search(np.ascontiguousarray(queries, np.float32), wanted)
        # An exhausted inverted list gives -1, whose similarity must come last.
        likeness = np.einsum("bd,bnd->bn", queries, self.database.embeddings[rows])
        likeness = np.where(rows < 0, -np.inf, likeness)
        order = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(rows, order, 1), np.take_along_axis(likeness, order, 1)

    def check_width(self, width: int) -> None:
        """Check that queries have the database's width.

        Raises:
            UserError: the database's embeddings have another width.
        """
        if width != self.database.width:
            raise UserError(
                f"database {self.database.path} has embeddings of {self.database.width} numbers, "
                f"the queries have {width}; expected the same CLIP model for both; "
                "give its --clip_type"
            )


def check_count(database: RetrievalDatabase, k: int) -> None:
    """Check that a database has at least ``k`` embeddings.

    Raises:
        UserError: it has fewer.
    """
    if len(database) < k:
        raise UserError(
            f"--knn {k} was given; database {database.path} has {len(database)} embeddings; "
            "give a smaller --knn or a larger database"
        )


def has_faiss() -> bool:
    """Check whether the faiss library is installed."""
    return importlib.util.find_spec("faiss") is not None


def kind_for(count: int) -> str:
    """Return the kind of index for a database of ``count`` embeddings."""
    if count < FEWEST_FOR_LISTS or not has_faiss():
        return "exact"
    return "ivf" if count < FEWEST_FOR_CODES else "ivfpq"


def train_searcher(database: RetrievalDatabase, kind: str | None = None) -> Searcher:
    """Make an index of a database.

    Args:
        database: What to search.
        kind: One of ``KINDS``; by default the one for its size.

    Raises:
        UserError: neither faiss nor scikit-learn is installed, or the index needs faiss.
    """
    kind = kind or kind_for(len(database))
    if has_faiss():
        return Searcher(database, _FaissIndex(_train_faiss(database.embeddings, kind)), kind)
    if kind != "exact":
        raise UserError(
            f"an index of kind {kind} was asked for; it needs the faiss library, which is not "
            'installed; run pip install -e ".[retrieval]", or take kind exact'
        )
    return Searcher(database, _ScikitIndex(database.embeddings), kind)


class _FaissIndex:
    library = "faiss"

    def __init__(self, index: Any) -> None:
        self.faiss_index = index

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        return self.faiss_index.search(queries, k)[1]


class _ScikitIndex:
    library = "scikit-learn, as faiss is not installed,"

    def __init__(self, embeddings: np.ndarray) -> None:
        try:
            from sklearn.neighbors import NearestNeighbors
        except ImportError as error:
            raise UserError(
                "neither faiss nor scikit-learn is installed; expected one of them to search for "
                'neighbours; run pip install -e ".[retrieval]"'
            ) from error
        self._neighbours = NearestNeighbors(algorithm="brute", metric="cosine").fit(embeddings)

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        return self._neighbours.kneighbors(queries, k, return_distance=False)


def _train_faiss(embeddings: np.ndarray, kind: str) -> Any:
    import faiss

    count, width = embeddings.shape
    index = faiss.IndexFlatIP(width)
    if kind != "exact":
        cells = max(int(math.sqrt(count)), 1)
        lists = (index, width, cells)
        if kind == "ivf":
            index = faiss.IndexIVFFlat(*lists, faiss.METRIC_INNER_PRODUCT)
        else:
            codes = (_subspaces(width), _bits(count))
            index = faiss.IndexIVFPQ(*lists, *codes, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = max(cells // 20, 1)
        index.train(embeddings)
    index.add(embeddings)
    return index


def _subspaces(width: int) -> int:
    """Return the number of subspaces of an embedding: 4 numbers each, if the width allows."""
    return next(width // size for size in (4, 3, 2, 1) if width % size == 0)


def _bits(count: int) -> int:
    """Return the bits of a code: 8, or fewer if there is too little data for 256 centroids."""
    return min(8, max(1, int(math.log2(max(count / POINTS_PER_CENTROID, 2)))))


def save_searcher(searcher: Searcher, folder: Path) -> None:
    """Write a searcher into a folder; an exact one needs only its record.

    Args:
        searcher: What to write.
        folder: Created if missing; an existing searcher in it is replaced.

    Raises:
        UserError: the folder cannot be written.
    """
    database = searcher.database
    record = SearcherRecord(searcher.kind, len(database), database.width, _checksum(database))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).unlink(missing_ok=True)  # no record until the index is complete
        (folder / INDEX).unlink(missing_ok=True)
        if searcher.kind != "exact":
            import faiss

            faiss.write_index(searcher.index.faiss_index, str(folder / INDEX))
        text = json.dumps(asdict(record), indent=1) + "\n"
        (folder / RECORD).write_text(text, encoding="utf-8")
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"searcher {folder} cannot be written ({' '.join(str(error).split())}); expected a "
            "folder with space; give another --target_path"
        ) from error


def load_searcher(folder: Path, database: RetrievalDatabase) -> Searcher:
    """Read the searcher trained for a database.

    Raises:
        UserError: it is damaged, of another database, or needs the faiss library.
    """
    record = _read_record(folder)
    own = (len(database), database.width, _checksum(database))
    if (record.count, record.width, record.checksum) != own:
        raise UserError(
            f"searcher {folder} was trained for {record.count} embeddings of {record.width} "
            f"numbers, database {database.path} has others ({own[0]} of {own[1]}); expected the "
            "same; run scripts/train_searcher.py again"
        )
    if record.kind == "exact":
        return train_searcher(database, "exact")
    if not has_faiss():
        raise UserError(
            f"searcher {folder} is an index of the faiss library, which is not installed; run pip "
            'install -e ".[retrieval]", or train the searcher again'
        )
    import faiss

    try:
        return Searcher(database, _FaissIndex(faiss.read_index(str(folder / INDEX))), record.kind)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise UserError(
            f"searcher {folder}: its index cannot be read ({reason}); expected {INDEX} as it was "
            "written; run scripts/train_searcher.py again"
        ) from error


def _read_record(folder: Path) -> SearcherRecord:
    try:
        return SearcherRecord(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"searcher {folder}: {RECORD} cannot be read ({error}); expected what "
            "scripts/train_searcher.py writes; run it again"
        ) from error


def _checksum(database: RetrievalDatabase) -> str:
    """Hash a sample of a database's numbers: reading all would take as long as training."""
    rows = np.linspace(0, len(database) - 1, num=min(64, len(database)), dtype=int)
    return hashlib.sha256(database.embeddings[rows].tobytes()).hexdigest()[:16]


def recall(searcher: Searcher, k: int, queries: int = 256) -> float:
    """Return the share of true neighbours that a searcher finds for embeddings of its database.

    Args:
        searcher: The searcher to test.
        k: Neighbours of each.
        queries: Number of embeddings to query, spread over the database.
    """
    embeddings = searcher.database.embeddings
    check_count(searcher.database, k)
    hits = 0
    for row in np.linspace(0, len(embeddings) - 1, queries, dtype=int):
        asked = embeddings[row]
        nearness = embeddings @ asked
        # Of several that are equally near, a searcher may find any.
        least = np.partition(nearness, -k)[-k] - _EQUAL * np.abs(nearness).max()
        hits += int((nearness[np.unique(searcher.search(asked[None], k)[0])] >= least).sum())
    return hits / (queries * k)
