"""Embeddings of new words, learned from a few pictures: a fork's file beside ours."""

from __future__ import annotations

import torch
from torch import nn


class EmbeddingManager(nn.Module):
    """Puts a learned vector where the prompt has the placeholder.

    Args:
        embedder: The text encoder, whose tokenizer knows the placeholder's number.
        placeholder: One token.
        initializer: Word whose vector it begins with.
    """

    def __init__(self, embedder, placeholder="*", initializer="toy"):
        super().__init__()
        self.number = self._number(embedder, placeholder)
        table = embedder.transformer.text_model.embeddings.token_embedding.weight
        start = table[self._number(embedder, initializer)].detach().clone()
        self.vectors = nn.ParameterDict({"new": nn.Parameter(start[None])})
        self.register_buffer("initial", start[None].clone(), persistent=False)

    @staticmethod
    def _number(embedder, word):
        return int(embedder.tokenizer(word, return_tensors="pt")["input_ids"][0, 1])

    def forward(self, tokens, embedded):
        here = (tokens == self.number)[..., None]
        return torch.where(here, self.vectors["new"][0], embedded)

    def embedding_parameters(self):
        return self.vectors.parameters()

    def distance(self):
        """Return how far the vector has gone, squared."""
        return (self.vectors["new"] - self.initial).pow(2).mean()

    def save(self, path):
        torch.save({"string_to_param": self.vectors.state_dict()}, path)
