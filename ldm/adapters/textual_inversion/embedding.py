"""An embedding: its trigger words and their vectors, and how a model gets to know them.

Shapes: n vectors of one embedding, D width of the text encoder's tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ldm.adapters.handle import Handle, Scale
from ldm.adapters.report import Report, base_of_width, wrong_base
from ldm.adapters.textual_inversion.vocabulary import Vocabulary, vocabulary_of
from ldm.errors import UserError

KIND = "textual inversion"
SDXL = "SDXL"


@dataclass(frozen=True, eq=False)
class Embedding:
    """Vectors that take the place of a word's tokens.

    Attributes:
        name: The word that calls them: the file's name without its ending, as a rule.
        vectors: (n, D) float32 on the CPU.
        report: What the file is.
        aliases: Other words that call them, such as the placeholder that a file was trained with.
    """

    name: str
    vectors: Tensor
    report: Report
    aliases: tuple[str, ...] = ()

    @property
    def triggers(self) -> tuple[str, ...]:
        """All words that call the vectors, each once whatever its case."""
        words = {word.casefold(): word for word in (*self.aliases, self.name)}
        return tuple(sorted(words.values(), key=lambda word: word != self.name))

    def attach(self, model: nn.Module, scale: Scale = 1.0) -> EmbeddingHandle:
        """Let a model's prompts use the embedding, until the handle's ``detach``.

        Args:
            model: The hub.
            scale: What the vectors are multiplied by. Prompts are encoded before the first step:
                a function of the step is refused.

        Raises:
            UserError: It is made for another kind of model, or longer than a prompt may be; one of
                its words is taken; the model's text encoder has no vocabulary of CLIP's kind.
        """
        return EmbeddingHandle(self, model, scale)

    @classmethod
    def of(cls, name: str, vectors: Tensor) -> Embedding:
        """Return an embedding that no file holds yet, such as one that was trained.

        Args:
            name: Its trigger word.
            vectors: (n, D) or (D,).
        """
        vectors = torch.atleast_2d(vectors.detach()).float().cpu()
        base = base_of_width(vectors.shape[1])
        report = Report(Path(name), KIND, "no file's", base, extent=f"{len(vectors)} vectors")
        return cls(name, vectors, report)


class EmbeddingHandle(Handle):
    """An embedding that a model's prompts can use."""

    def __init__(self, embedding: Embedding, model: nn.Module, scale: Scale) -> None:
        _check_scale(scale)
        self.embedding = embedding
        vocabulary = vocabulary_of(model)
        _check_fit(embedding, vocabulary, model)
        super().__init__(model, scale)
        try:
            self._entry = vocabulary.add(
                embedding.triggers, embedding.vectors, self.strength, str(embedding.report.path)
            )
        except UserError:
            self.follower.leave()
            raise
        self._vocabulary: Vocabulary = vocabulary

    @property
    def scale(self) -> Scale:
        """What the vectors are multiplied by, from the next prompt on."""
        return self._scale

    @scale.setter
    def scale(self, scale: Scale) -> None:
        _check_scale(scale)
        self._scale = scale

    def _release(self) -> None:
        self._vocabulary.drop(self._entry)


def _check_scale(scale: Scale) -> None:
    if callable(scale):
        raise UserError(
            "an embedding was given a scale that changes with the steps; prompts are encoded "
            "before the first step; expected a number; change prompts by a schedule instead"
        )


def _check_fit(embedding: Embedding, vocabulary: Vocabulary, model: nn.Module) -> None:
    report, (n, width) = embedding.report, embedding.vectors.shape
    if report.base == SDXL or width != vocabulary.width:
        raise wrong_base(report.path, KIND, report.base, model)
    if n > vocabulary.room:
        raise UserError(
            f"{KIND} {str(report.path)!r} has {n} vectors; the text encoder takes "
            f"{vocabulary.room} tokens; give one with fewer vectors"
        )
