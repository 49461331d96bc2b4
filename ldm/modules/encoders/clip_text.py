"""CLIP's text transformer under its classic checkpoint names.

Shapes: ``B`` batch, ``L`` tokens (77), ``D`` width, ``heads``, ``d`` head width.

The names ``text_model.embeddings…``, ``text_model.encoder.layers.N…`` and
``text_model.final_layer_norm`` are those of every Stable Diffusion v1 checkpoint. The transformers
library has renamed its own (5.6 dropped ``text_model.``), which is why this file does not use it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def quick_gelu(x: Tensor) -> Tensor:
    """Apply the sigmoid approximation of GELU with which CLIP was trained."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


@dataclass(frozen=True)
class CLIPTextConfig:
    """Sizes of the transformer; the defaults are those of openai/clip-vit-large-patch14.

    ``embedding_std`` is the standard deviation of the initial token and position embeddings. CLIP's
    0.02 suits its long training; a small encoder with a few thousand steps learns words much sooner
    from 0.5, because what the first layers add then does not drown out the token.
    """

    vocab_size: int = 49408
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    embedding_std: float = 0.02

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is no multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act {self.hidden_act!r} is none of {sorted(ACTIVATIONS)}")


@dataclass(frozen=True)
class CLIPTextOutput:
    """What the text model returns: the states after the final layer norm, (B, L, D)."""

    last_hidden_state: Tensor


class CLIPTextEmbeddings(nn.Module):
    """Token plus learned position embedding."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        length, limit = input_ids.shape[-1], self.position_embedding.num_embeddings
        if length > limit:
            raise ValueError(f"{length} tokens given, the text model has {limit} positions")
        return (
            self.token_embedding(input_ids) + self.position_embedding.weight[:length]
        )  # (B, L, D)


def causal_mask(mask: Tensor) -> Tensor:
    """Return who may look at whom, (B, 1, L, L), where (B, L) may be looked at from behind."""
    length = mask.shape[-1]
    before = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    return before & mask[:, None, None, :]


class CLIPAttention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (
            rearrange(project(x), "B L (heads d) -> B heads L d", heads=self.heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.out_proj(rearrange(out, "B heads L d -> B L (heads d)"))


class CLIPMLP(nn.Module):
    """Two linear layers with the configured activation between them."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class CLIPEncoderLayer(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.self_attn = CLIPAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = CLIPMLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, *mask: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), *mask)
        return x + self.mlp(self.layer_norm2(x))


class CLIPEncoder(nn.Module):
    """The stack of blocks."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            CLIPEncoderLayer(config) for _ in range(config.num_hidden_layers)
        )

    def forward(self, x: Tensor, skip_last: int = 0, mask: Tensor | None = None) -> Tensor:
        """Run the blocks on (B, L, D), without the last ``skip_last``."""
        masks = () if mask is None else (causal_mask(mask),)
        for layer in self.layers[: len(self.layers) - skip_last]:
            x = layer(x, *masks)
        return x


class CLIPTextTransformer(nn.Module):
    """Embeddings, encoder and final layer norm: what checkpoints call ``text_model``."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.embeddings = CLIPTextEmbeddings(config)
        self.encoder = CLIPEncoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor, skip_last: int = 0, mask: Tensor | None = None) -> Tensor:
        states = self.encoder(self.embeddings(input_ids), skip_last, mask)
        return self.final_layer_norm(states)  # (B, L, D)


class CLIPTextModel(nn.Module):
    """CLIP's text tower, freshly initialised; fill it from a checkpoint or train it.

    Args:
        config: the sizes.
    """

    def __init__(self, config: CLIPTextConfig | None = None) -> None:
        super().__init__()
        self.config = config or CLIPTextConfig()
        self.text_model = CLIPTextTransformer(self.config)
        self._initialise()

    def forward(
        self, input_ids: Tensor, skip_last: int = 0, mask: Tensor | None = None
    ) -> CLIPTextOutput:
        """Encode token ids.

        Args:
            input_ids: (B, L) LongTensor on the weights' device, L at most 77.
            skip_last: Blocks to leave out at the end, before the final layer norm.
            mask: (B, L) bool: which tokens may be looked at; None is all.

        Returns:
            The states after the final layer norm, (B, L, D), in the weights' dtype.
        """
        return CLIPTextOutput(last_hidden_state=self.text_model(input_ids, skip_last, mask))

    @torch.no_grad()
    def _initialise(self) -> None:
        """Draw the weights as CLIP does (arXiv:2103.00020, section 2.5 and its released code)."""
        width, depth = self.config.hidden_size, self.config.num_hidden_layers
        residual = (2 * depth) ** -0.5  # keeps the sum of 2 * depth residual branches near one
        embeddings = self.text_model.embeddings
        for table in (embeddings.token_embedding, embeddings.position_embedding):
            nn.init.normal_(table.weight, std=self.config.embedding_std)
        for layer in self.text_model.encoder.layers:
            attention, mlp = layer.self_attn, layer.mlp
            for linear, std in (
                (attention.q_proj, width**-0.5 * residual),
                (attention.k_proj, width**-0.5 * residual),
                (attention.v_proj, width**-0.5 * residual),
                (attention.out_proj, width**-0.5),
                (mlp.fc1, (2 * width) ** -0.5),
                (mlp.fc2, width**-0.5 * residual),
            ):
                nn.init.normal_(linear.weight, std=std)
                nn.init.zeros_(linear.bias)
