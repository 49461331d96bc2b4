"""The patch discriminator of adversarial first stages: arXiv:1611.07004, section 3.2.2.

Key names are the checkpoints': ``loss.discriminator.main.N.*``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ldm.errors import UserError


class ActNorm(nn.Module):
    """Shift and scale each channel; the first training batch sets both: arXiv:1807.03039, 3.1.

    Args:
        num_features: Channels C.
    """

    def __init__(self, num_features: int):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, num_features, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, num_features, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not self.initialized:
            self._measure(x)
        return self.scale * (x + self.loc)

    @torch.no_grad()
    def _measure(self, x: Tensor) -> None:
        """Give each channel mean 0 and standard deviation 1 over this batch."""
        std, mean = torch.std_mean(x.float(), dim=(0, 2, 3), keepdim=True)
        self.loc.copy_(-mean)
        self.scale.copy_(1.0 / (std + 1e-6))
        self.initialized.fill_(1)


class NLayerDiscriminator(nn.Module):
    """Tell real patches from generated ones: a map of logits, one per patch of the picture.

    Args:
        input_nc: Channels of the picture plus those of its conditioning.
        ndf: Width of the first layer; it doubles up to 8 times that.
        n_layers: Layers that halve the sides; 3 gives patches of 70 pixels.
        use_actnorm: ActNorm in place of BatchNorm.

    Raises:
        UserError: ``n_layers`` is below 1.
    """

    def __init__(
        self, input_nc: int = 3, ndf: int = 64, n_layers: int = 3, use_actnorm: bool = False
    ):
        super().__init__()
        # The two layers after the halvings shrink the map by one pixel each.
        self.n_layers, self.least_side = n_layers, 3 * 2**n_layers
        if n_layers < 1:
            raise UserError(f"disc_num_layers is {n_layers}; expected 1 or more")
        widths = [ndf * min(2**n, 8) for n in range(n_layers + 1)]
        layers: list[nn.Module] = [nn.Conv2d(input_nc, ndf, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        for n, (before, after) in enumerate(zip(widths, widths[1:], strict=False), start=1):
            stride = 2 if n < n_layers else 1
            # BatchNorm has its own bias.
            layers.append(nn.Conv2d(before, after, 4, stride, 1, bias=use_actnorm))
            layers.append(ActNorm(after) if use_actnorm else nn.BatchNorm2d(after))
            layers.append(nn.LeakyReLU(0.2, True))
        self.main = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        self.apply(weights_init)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, h, w) of pictures (B, input_nc, H, W); above 0 is real.

        Raises:
            UserError: The pictures are smaller than a patch.
        """
        if min(x.shape[-2:]) < self.least_side:
            raise UserError(
                f"pictures of {x.shape[-2]}x{x.shape[-1]} pixels are too small for a discriminator "
                f"of {self.n_layers} layers; expected {self.least_side} or more; lower "
                "lossconfig.params.disc_num_layers or raise the data's size"
            )
        return self.main(x)


def weights_init(module: nn.Module) -> None:
    """Draw weights from N(0, 0.02), or N(1, 0.02) for a norm: arXiv:1511.06434, section 4."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
