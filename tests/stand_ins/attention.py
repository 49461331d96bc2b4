"""In place of ``ldm.modules.attention``: the first version's classes and parameters."""

from torch import nn

from ldm.modules.diffusionmodules.util import checkpoint


class FeedForward(nn.Module):
    def __init__(self, dim, dim_out=None, mult=4, glu=False, dropout=0.0):
        super().__init__()
        self.net = nn.Linear(dim, dim_out or dim)

    def forward(self, x):
        return self.net(x)


class CrossAttention(nn.Module):
    def __init__(self, query_dim, context_dim=None, heads=8, dim_head=64, dropout=0.0):
        super().__init__()
        self.to_q = nn.Linear(query_dim, query_dim, bias=False)
        self.to_k = nn.Linear(context_dim or query_dim, query_dim, bias=False)

    def forward(self, x, context=None, mask=None):
        context = x if context is None else context
        q, k = self.to_q(x), self.to_k(context)
        return (q @ k.mT).softmax(-1) @ k


class BasicTransformerBlock(nn.Module):
    def __init__(
        self, dim, n_heads, d_head, dropout=0.0, context_dim=None, gated_ff=True, checkpoint=True
    ):
        super().__init__()
        self.attn1 = CrossAttention(dim, heads=n_heads, dim_head=d_head)
        self.attn2 = CrossAttention(dim, context_dim, heads=n_heads, dim_head=d_head)
        self.checkpoint = checkpoint

    def forward(self, x, context=None):
        return checkpoint(self._forward, (x, context), self.parameters(), self.checkpoint)

    def _forward(self, x, context=None):
        x = self.attn1(x) + x
        return self.attn2(x, context=context) + x


class SpatialTransformer(nn.Module):
    def __init__(self, in_channels, n_heads, d_head, depth=1, dropout=0.0, context_dim=None):
        super().__init__()
        width = n_heads * d_head
        self.proj_in = nn.Conv2d(in_channels, width, 1)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(width, n_heads, d_head, dropout=dropout, context_dim=context_dim)
            for _ in range(depth)
        )
        self.proj_out = nn.Conv2d(width, in_channels, 1)

    def forward(self, x, context=None):
        h = self.proj_in(x)
        tokens = h.flatten(2).mT
        for block in self.transformer_blocks:
            tokens = block(tokens, context=context)
        return x + self.proj_out(tokens.mT.reshape(h.shape))
