"""In place of ``ldm.modules.x_transformer``: keyword arguments alone."""

from torch import nn


class Encoder(nn.Module):
    def __init__(self, **kwargs):
        super().__init__()
        self.dim = kwargs["dim"]


class TransformerWrapper(nn.Module):
    def __init__(self, *, num_tokens, max_seq_len, attn_layers, emb_dropout=0.0):
        super().__init__()
        self.num_tokens = num_tokens
        self.token_emb = nn.Embedding(num_tokens, attn_layers.dim)
        self.emb_dropout = nn.Dropout(emb_dropout)
        self.to_logits = nn.Linear(attn_layers.dim, num_tokens)

    def forward(self, x, return_embeddings=False, mask=None, **kwargs):
        states = self.token_emb(x)
        return states if return_embeddings else self.to_logits(states)
