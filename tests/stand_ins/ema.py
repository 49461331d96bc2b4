"""In place of ``ldm.modules.ema``: the reference's five methods and no more."""

import torch
from torch import nn


class LitEma(nn.Module):
    def __init__(self, model, decay=0.9999, use_num_upates=True):
        super().__init__()
        self.register_buffer("decay", torch.tensor(decay, dtype=torch.float32))
        self.register_buffer("num_updates", torch.tensor(0, dtype=torch.int))
        self.m_name2s_name = {name: name.replace(".", "") for name, _ in model.named_parameters()}
        for name, parameter in model.named_parameters():
            self.register_buffer(self.m_name2s_name[name], parameter.clone().detach().data)
        self.collected_params = []

    def forward(self, model):
        for name, parameter in model.named_parameters():
            getattr(self, self.m_name2s_name[name]).lerp_(parameter.detach(), 0.1)

    def copy_to(self, model):
        for name, parameter in model.named_parameters():
            parameter.data.copy_(getattr(self, self.m_name2s_name[name]))

    def store(self, parameters):
        self.collected_params = [parameter.clone() for parameter in parameters]

    def restore(self, parameters):
        for kept, parameter in zip(self.collected_params, parameters, strict=True):
            parameter.data.copy_(kept.data)
