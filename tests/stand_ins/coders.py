"""In place of ``ldm.modules.diffusionmodules.model``: the autoencoder's halves, by keyword only."""

from torch import nn
from torch.nn import functional


def Normalize(in_channels, num_groups=32):  # noqa: N802 - the reference's name
    return nn.GroupNorm(num_groups, in_channels)


def nonlinearity(x):
    return functional.silu(x)


class ResnetBlock(nn.Module):
    def __init__(
        self, *, in_channels, out_channels=None, conv_shortcut=False, dropout, temb_channels=512
    ):
        super().__init__()


class AttnBlock(nn.Module):
    def __init__(self, in_channels):
        super().__init__()


class Upsample(nn.Module):
    def __init__(self, in_channels, with_conv):
        super().__init__()


class Downsample(nn.Module):
    def __init__(self, in_channels, with_conv):
        super().__init__()


class Encoder(nn.Module):
    def __init__(self, *, ch, out_ch, z_channels, in_channels, double_z=True, **ignore_kwargs):
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, ch, 2, stride=2)
        self.conv_out = nn.Conv2d(ch, z_channels * (1 + double_z), 1)

    def forward(self, x):
        return self.conv_out(self.conv_in(x))


class Decoder(nn.Module):
    def __init__(self, *, ch, out_ch, z_channels, give_pre_end=False, **ignore_kwargs):
        super().__init__()
        self.conv_in = nn.Conv2d(z_channels, ch, 1)
        self.conv_out = nn.ConvTranspose2d(ch, out_ch, 2, stride=2)

    def forward(self, z):
        return self.conv_out(self.conv_in(z))
