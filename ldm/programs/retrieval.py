"""The program that draws from text and neighbours. Does not import torch itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ldm.errors import UserError
from ldm.paths import is_folder
from ldm.programs.drawing import DrawingProgram
from ldm.retrieval.settings import RetrievalSettings, database_path, searcher_path

if TYPE_CHECKING:  # these import NumPy, OmegaConf and torch, which --help can do without
    from ldm.pipelines.clip import TextEncoder
    from ldm.pipelines.pipeline import Pipeline
    from ldm.programs.output import OutputFolder
    from ldm.retrieval.searcher import Searcher

LARGE = 200_000  # embeddings from which on an exact search is slow


class RetrievalProgram(DrawingProgram):
    """Text-to-image by a retrieval-augmented model.

    Args:
        description: First lines of ``--help``.
    """

    def __init__(self, description: str) -> None:
        super().__init__(RetrievalSettings, description)
        self._searcher: Searcher | None = None

    def make_output(self) -> OutputFolder:
        """Return where the pictures go; read the database first, as that needs no torch."""
        if self.settings.use_neighbors:
            self._searcher = self._open(self.settings)
        return super().make_output()

    def _open(self, settings: RetrievalSettings) -> Searcher:
        """Return the searcher of the database that the settings name.

        Raises:
            UserError: the searcher or database cannot be read, or they do not match.
        """
        from ldm.data.retrieval import RetrievalDatabase
        from ldm.pipelines.models import find
        from ldm.retrieval import searcher

        database = RetrievalDatabase.read(find(database_path(settings.database)))
        searcher.check_count(database, settings.knn)
        made_by = database.embedder
        if made_by is not None and made_by.clip_type != settings.clip_type:
            raise UserError(
                f"database {database.path} was embedded by CLIP {made_by.clip_type}, and "
                f"--clip_type is {settings.clip_type}; expected the same; change one of them"
            )
        trained = find(settings.searcher or searcher_path(settings.database))
        if settings.searcher is not None or is_folder(trained):
            return searcher.load_searcher(trained, database)
        if len(database) >= LARGE:
            self.console.warn(
                f"database {database.path} has no trained searcher: {len(database)} embeddings are "
                "compared for every prompt; scripts/train_searcher.py makes this faster"
            )
        return searcher.train_searcher(database, "exact")

    def make_encoder(self, settings: RetrievalSettings) -> TextEncoder:
        """Return CLIP's text tower, on the CPU.

        Raises:
            UserError: its weights are not on this machine.
        """
        import torch

        from ldm.pipelines.clip import ClipTexts

        return ClipTexts(settings.clip_type, settings.clip_ckpt, torch.device("cpu"))

    def load(self) -> Pipeline:
        """Load CLIP, then the model, and make CLIP the model's conditioner."""
        from ldm.retrieval.conditioner import RetrievalConditioner

        settings = self.settings
        texts = self.make_encoder(settings)
        self._check_width(texts)
        pipeline = super().load()
        texts.to(pipeline.device)
        pipeline.model.cond_stage_model = RetrievalConditioner(
            texts, n_repeat=settings.n_repeat or 1, searcher=self._searcher, knn=settings.knn or 0
        )
        return pipeline

    def announce(self, pipeline: Pipeline) -> None:
        """Say what pictures will be drawn with, neighbours included."""
        super().announce(pipeline)
        if self._searcher is not None:
            found = self._searcher
            self.console.say(
                f"{self.settings.knn} neighbours of {len(found.database)} in {found.database.path} "
                f"({found.kind} search by {found.library})."
            )

    def _check_width(self, texts: TextEncoder) -> None:
        """Check that CLIP, the model and the database use embeddings of the same width.

        Raises:
            UserError: they do not.
        """
        from omegaconf import OmegaConf

        key = "model.params.unet_config.params.context_dim"
        width, own = texts(["a"]).shape[-1], OmegaConf.select(self.request.choice.config, key)
        if own != width:
            raise UserError(
                f"--clip_type {self.settings.clip_type} gives {width} numbers; the model of "
                f"{self.request.choice.config_path} takes {own}; give the CLIP model that it was "
                "trained with"
            )
        if self._searcher is not None:
            self._searcher.check_width(width)
