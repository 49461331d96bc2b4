"""In place of ``ldm.modules.distributions.distributions``: ``sample`` takes nothing."""

import torch


def normal_kl(mean1, logvar1, mean2, logvar2):
    logvar2 = torch.as_tensor(logvar2)
    gap = (mean1 - mean2) ** 2 * (-logvar2).exp()
    return 0.5 * (-1.0 + logvar2 - logvar1 + (logvar1 - logvar2).exp() + gap)


class AbstractDistribution:
    pass


class DiracDistribution(AbstractDistribution):
    pass


class DiagonalGaussianDistribution:
    def __init__(self, parameters, deterministic=False):
        self.parameters, self.deterministic = parameters, deterministic
        self.mean, self.logvar = parameters.chunk(2, dim=1)
        self.std, self.var = (0.5 * self.logvar).exp(), self.logvar.exp()

    def sample(self):
        return self.mean + self.std * torch.randn(self.mean.shape)

    def mode(self):
        return self.mean

    def kl(self, other=None):
        return 0.5 * (self.mean**2 + self.var - 1.0 - self.logvar).sum(dim=[1, 2, 3])

    def nll(self, sample, dims=(1, 2, 3)):
        return (self.logvar + (sample - self.mean) ** 2 / self.var).sum(dim=dims)
