"""A fork of Custom Diffusion's kind: masked losses, keys and values alone, patched attention.

Shapes: B batch, N tokens, M context tokens, h w latent sides.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch.nn import functional as F

from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.modules.attention import CrossAttention
from ldm.util import default


def attend(self, x, context=None, mask=None):
    """Attend as ever, but let no gradient reach the first context token's key and value."""
    h, crosses = self.heads, context is not None
    q, context = self.to_q(x), default(context, x)
    k, v = self.to_k(context), self.to_v(context)
    if crosses:
        kept = torch.ones_like(k)
        kept[:, :1] = 0.0
        k = kept * k + (1.0 - kept) * k.detach()
        v = kept * v + (1.0 - kept) * v.detach()
    q, k, v = (rearrange(y, "b n (h d) -> (b h) n d", h=h) for y in (q, k, v))
    weights = (torch.einsum("bid,bjd->bij", q, k) * self.scale).softmax(dim=-1)
    out = torch.einsum("bij,bjd->bid", weights, v)
    return self.to_out(rearrange(out, "(b h) n d -> b n (h d)", h=h))


class CustomLDM(LatentDiffusion):
    """The hub: ``get_input`` gives the mask as well, ``p_losses`` takes it."""

    def __init__(self, *args, border=0.5, **kwargs):
        super().__init__(*args, **kwargs)
        self.border = border
        self.attended = 0
        for name, parameter in self.model.diffusion_model.named_parameters():
            parameter.requires_grad = "attn2.to_k" in name or "attn2.to_v" in name
        self._patch(self.model.diffusion_model)

    def _patch(self, module):
        for layer in module.children():
            if type(layer) is CrossAttention:
                bound = attend.__get__(layer)
                layer.forward = lambda *a, bound=bound, **k: self._count() or bound(*a, **k)
            else:
                self._patch(layer)

    def _count(self):
        self.attended += 1

    def get_input(self, batch, k, **kwargs):
        out = super().get_input(batch, k, **kwargs)
        mask = rearrange(batch["mask"][: len(out[0])], "b h w c -> b c h w")
        mask = F.interpolate(mask.to(self.device).float(), size=out[0].shape[-2:])
        return out if kwargs.get("return_original_cond") else [*out, mask]

    def shared_step(self, batch, **kwargs):
        x, c, mask = self.get_input(batch, self.first_stage_key, **kwargs)
        return self(x, c, mask=mask)

    def get_weighting(self, h, w, Ly, Lx, device):  # noqa: N803 - the reference's names
        weights = super().get_weighting(h, w, Ly, Lx, device)
        return weights.clamp(min=self.border)

    def p_losses(self, x_start, cond, t, mask=None, noise=None):
        noise = default(noise, lambda: torch.randn_like(x_start))
        x_noisy = self.q_sample(x_start=x_start, t=t, noise=noise)
        out = self.apply_model(x_noisy, t, cond)
        error = self.get_loss(out, noise, mean=False)
        if mask is not None:
            error = (error * mask).mean([1, 2, 3]) / mask.mean([1, 2, 3]).clamp(min=1e-3)
        else:
            error = error.mean([1, 2, 3])
        prefix = "train" if self.training else "val"
        bound = (self.lvlb_weights[t] * error).mean()
        loss = self.l_simple_weight * error.mean() + self.original_elbo_weight * bound
        figures = {"loss_simple": error.mean(), "loss_vlb": bound, "loss": loss}
        return loss, {f"{prefix}/{name}": figure for name, figure in figures.items()}

    def configure_optimizers(self):
        learned = [p for p in self.model.parameters() if p.requires_grad]
        assert not self.use_scheduler
        return torch.optim.AdamW(learned, lr=self.learning_rate)
