"""The codebook of VQ first stages: replace every latent vector by its nearest entry.

VQ-VAE, arXiv:1711.00937, section 3; VQ-GAN, arXiv:2012.09841, section 3.1.

Shapes: B batch, D entry width (e_dim), h w latent sides, N entries (n_e).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from ldm.errors import UserError

TABLE = 2**26
"""Distances in memory at a time: 256 MiB in float32, whatever the size of the picture."""

Info = tuple[None, None, Tensor]


class VectorQuantizer2(nn.Module):
    """Nearest neighbour in a learnt codebook, with straight-through gradients.

    Args:
        n_e: Entries N.
        e_dim: Width D of an entry.
        beta: Weight of the commitment term; which term that is, see ``legacy``.
        remap: Path of a ``.npy`` file with the entries in use, 1-D integers: indices become
            positions in this list (for a transformer over fewer symbols).
        unknown_index: What an entry outside ``remap`` becomes: ``random``, ``extra`` (an additional
            symbol) or a fixed integer.
        sane_index_shape: Return indices as (B, h, w) instead of flat.
        legacy: Put ``beta`` on the codebook's term, as in the training of CompVis's models; False
            puts it on the encoder's, VQ-VAE Eq. 3.

    Raises:
        UserError: ``remap`` is not such a file, or ``unknown_index`` is none of the three.
    """

    def __init__(
        self,
        n_e: int,
        e_dim: int,
        beta: float,
        remap: str | Path | None = None,
        unknown_index: str | int = "random",
        sane_index_shape: bool = False,
        legacy: bool = True,
    ):
        super().__init__()
        self.n_e, self.e_dim, self.beta, self.legacy = n_e, e_dim, beta, legacy
        self.sane_index_shape = sane_index_shape
        self.embedding = nn.Embedding(n_e, e_dim)
        nn.init.uniform_(self.embedding.weight, -1.0 / n_e, 1.0 / n_e)
        self.remap, self.re_embed = remap, n_e
        self.unknown_index = unknown_index
        if remap is not None:
            self.register_buffer("used", torch.from_numpy(_read_used(remap, n_e)))
            self._choose_unknown(unknown_index)

    def _choose_unknown(self, unknown_index: str | int) -> None:
        self.re_embed = self.used.shape[0]
        if unknown_index == "extra":
            self.unknown_index = self.re_embed
            self.re_embed += 1
        elif unknown_index != "random" and not isinstance(unknown_index, int):
            raise UserError(
                f"unknown_index {unknown_index!r} given; expected 'random', 'extra' or an integer"
            )

    def remap_to_used(self, inds: Tensor) -> Tensor:
        """Turn entries (B, ...) into their positions in ``used``.

        Random replacements are drawn from the CPU's generator, as in the reference.
        """
        match = inds[..., None] == self.used.to(inds)  # (B, ..., used)
        new, unknown = match.long().argmax(-1), ~match.any(-1)
        if self.unknown_index == "random":
            drawn = torch.randint(0, self.re_embed, size=(int(unknown.sum()),))
            new[unknown] = drawn.to(new)
        else:
            new[unknown] = self.unknown_index
        return new

    def unmap_to_all(self, inds: Tensor) -> Tensor:
        """Turn positions in ``used`` (B, ...) into entries; the extra symbol becomes the first."""
        used = self.used.to(inds)
        return used[inds.masked_fill(inds >= used.shape[0], 0)]

    def forward(
        self,
        z: Tensor,
        temp: float | None = None,
        rescale_logits: bool = False,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Info]:
        """Quantise latents.

        Args:
            z: Latents (B, D, h, w).
            temp: Kept for CompVis, like the next two, for Gumbel quantisers.
            rescale_logits: See ``temp``.
            return_logits: See ``temp``.

        Returns:
            Entries (B, D, h, w), with the gradient of ``z``; the codebook loss, a scalar; and
            ``(None, None, indices)``: (B*h*w,), (B*h*w, 1) with ``remap``, or (B, h, w).

        Raises:
            ValueError: The latents have another width, or a Gumbel quantiser's argument is given.
        """
        if temp not in (None, 1.0) or rescale_logits or return_logits:
            raise ValueError("VectorQuantizer2 takes no temp, rescale_logits or return_logits")
        if z.ndim != 4 or z.shape[1] != self.e_dim:
            raise ValueError(f"latents {tuple(z.shape)} given; expected (B, {self.e_dim}, h, w)")
        tokens = rearrange(z, "b d h w -> b h w d").contiguous()
        indices = self.nearest(tokens.view(-1, self.e_dim))
        entries = self.embedding(indices).view(tokens.shape)
        loss = self._loss(tokens, entries)
        entries = tokens + (entries - tokens).detach()  # straight through
        if self.remap is not None:
            indices = self.remap_to_used(indices.view(z.shape[0], -1)).view(-1, 1)
        if self.sane_index_shape:
            indices = indices.view(z.shape[0], *z.shape[2:])
        return rearrange(entries, "b h w d -> b d h w").contiguous(), loss, (None, None, indices)

    def _loss(self, tokens: Tensor, entries: Tensor) -> Tensor:
        to_encoder = torch.mean((entries.detach() - tokens) ** 2)
        to_codebook = torch.mean((entries - tokens.detach()) ** 2)
        if self.legacy:
            return to_encoder + self.beta * to_codebook
        return self.beta * to_encoder + to_codebook

    @torch.no_grad()
    def nearest(self, tokens: Tensor) -> Tensor:
        """Return the index (n,) of the entry nearest to each of ``tokens`` (n, D).

        In float32 even under autocast: half precision cannot distinguish neighbouring entries.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            entries = self.embedding.weight.float()
            norms = entries.square().sum(1)
            found = [
                torch.argmin(z.square().sum(1, keepdim=True) + norms - 2 * (z @ entries.T), dim=1)
                for z in tokens.float().split(max(1, TABLE // self.n_e))
            ]
        return torch.cat(found)

    def get_codebook_entry(self, indices: Tensor, shape: tuple[int, ...] | None) -> Tensor:
        """Look entries up.

        Args:
            indices: As ``forward`` returns them, in any shape.
            shape: (B, h, w, D) of the entries; None leaves them as (n, D).

        Returns:
            Entries (B, D, h, w), or (n, D).
        """
        indices = indices.reshape(-1)
        indices = self.unmap_to_all(indices) if self.remap is not None else indices
        entries = self.embedding(indices)
        if shape is None:
            return entries
        return rearrange(entries.view(shape), "b h w d -> b d h w").contiguous()

    def embed_code(self, code: Tensor) -> Tensor:
        """Return the entries (B, D, h, w) of indices (B, h, w)."""
        return self.get_codebook_entry(code, (*code.shape, self.e_dim))


def _read_used(path: str | Path, n_e: int) -> np.ndarray:
    try:
        used = np.load(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"remap {str(path)!r} cannot be read ({error}); expected a .npy file of indices"
        ) from error
    whole = used.ndim == 1 and len(used) > 0 and np.issubdtype(used.dtype, np.integer)
    if not whole or used.min() < 0 or used.max() >= n_e:
        raise UserError(
            f"remap {str(path)!r} holds {used.dtype} {used.shape}; expected a 1-D array of "
            f"integers from 0 to {n_e - 1}; give the indices of the entries in use"
        )
    return used.astype(np.int64)
