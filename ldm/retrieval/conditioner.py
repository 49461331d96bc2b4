"""Conditioner of retrieval-augmented models: CLIP embeddings of a text and its neighbours.

Shape legend: B texts, k neighbours, E CLIP's width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ldm.pipelines.clip import TextEncoder
from ldm.retrieval.searcher import Searcher


class RetrievalConditioner(nn.Module):
    """Turns texts into tokens: each text's embedding, repeated, then its neighbours' embeddings.

    Neighbours come nearest first. The conditioner replaces a model's ``cond_stage_model``. The
    empty text, which guidance steers away from, is encoded as zeros, as in the model's training.

    Args:
        texts: CLIP's text tower.
        n_repeat: Tokens of the text itself.
        searcher: Finds neighbours; None uses none.
        knn: Number of neighbours.
    """

    def __init__(
        self,
        texts: TextEncoder,
        *,
        n_repeat: int = 1,
        searcher: Searcher | None = None,
        knn: int = 0,
    ) -> None:
        super().__init__()
        self.texts, self.n_repeat, self.searcher = texts, n_repeat, searcher
        self.knn = knn if searcher is not None else 0
        self.tokenizer = getattr(texts, "tokenizer", None)  # used to report truncated prompts

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return (B, n_repeat + k, E), each token of unit length, or zeros for an empty text.

        Raises:
            UserError: the database has too few embeddings, or their width differs.
        """
        rows = self.texts(prompts)  # (B, E)
        tokens = rows[:, None].expand(-1, self.n_repeat, -1)
        if self.searcher is not None:
            found, _ = self.searcher.search(rows.cpu().numpy(), self.knn)
            near = torch.from_numpy(self.searcher.database.embeddings[found])  # (B, k, E)
            tokens = torch.cat([tokens, near.to(rows)], dim=1)
        said = torch.tensor([bool(prompt) for prompt in prompts], device=rows.device)
        return tokens * said[:, None, None]

    def forward(self, prompts: Sequence[str]) -> Tensor:
        """See ``encode``."""
        return self.encode(prompts)
