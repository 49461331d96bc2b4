"""Train an embedding: vectors that a word of the prompt stands for. arXiv:2208.01618.

Shapes: n vectors, D width of the text encoder's tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from ldm.adapters.handle import Handle
from ldm.adapters.report import Report, base_of_width
from ldm.adapters.textual_inversion.embedding import KIND, Embedding
from ldm.adapters.textual_inversion.vocabulary import vocabulary_of
from ldm.adapters.textual_inversion.writing import FORMS, write_embedding
from ldm.errors import UserError
from ldm.training.adapters.trainable import Trainable

_NOT_OF_A_FILE = re.compile(r"[^\w.-]")


class TextualInversionTraining(Trainable):
    """An embedding in training.

    Args:
        model: The hub, whose text encoder is of CLIP's kind.
        name: The word that calls it, as captions have it. Letters, digits and ``-`` are the same
            as the file's name, by which other programs call it.
        initializer: A text whose tokens' vectors it begins as; several vectors share them out.
        vectors: n.
        forms: The formats to write, see ``write_embedding``.

    Raises:
        UserError: The word is empty, the initializer has no token, n does not fit into a prompt, or
            a format is unknown.
    """

    kind = "textual-inversion"
    reaches_text = True

    def __init__(
        self,
        model: nn.Module,
        name: str,
        initializer: str = "*",
        vectors: int = 1,
        forms: Sequence[str] = ("a1111", "diffusers"),
    ) -> None:
        super().__init__()
        vocabulary = vocabulary_of(model)
        begin = vocabulary.rows(initializer)  # (m, D)
        if not name.split() or not len(begin) or not 1 <= vectors <= vocabulary.room:
            raise UserError(
                f"name {name!r}, initializer {initializer!r}, vectors {vectors} given for an "
                f"embedding; expected a word, a text of it, and 1 to {vocabulary.room}; correct "
                "adapter_config.params"
            )
        for form in forms:
            if form not in FORMS:
                known = ", ".join(FORMS)
                raise UserError(f"forms has {form!r}; expected some of {known}; correct it")
        self.word, self.forms = name, list(forms)
        self.file_name = _NOT_OF_A_FILE.sub("", name) or None
        # Vector i of n begins as token floor(i m / n) of m.
        shared = [i * len(begin) // vectors for i in range(vectors)]
        self.vectors = nn.Parameter(begin[shared].float())

    def attach(self, model: nn.Module) -> Handle:
        """Let prompts use the vectors as they are now, and at each step."""
        base = base_of_width(self.vectors.shape[1])
        extent = f"{len(self.vectors)} vectors"
        report = Report(Path(self.word), KIND, "no file's", base, extent=extent)
        return Embedding(self.word, self.vectors, report).attach(model)

    def save(self, folder: Path, name: str, header: Mapping[str, str]) -> list[Path]:
        """Write a file for each format."""
        embedding = Embedding.of(self.word, self.vectors)
        return [
            write_embedding(embedding, folder / f"{name}{_ending(form, self.forms)}", form, header)
            for form in self.forms
        ]


def _ending(form: str, forms: Sequence[str]) -> str:
    """Return a format's ending; two formats with one ending are told apart."""
    ending = FORMS[form][0]
    same = [other for other in forms if FORMS[other][0] == ending]
    return ending if len(same) == 1 else f".{form}{ending}"
