"""A fork of textual inversion's kind: a patched text encoder and a hub that learns one vector.

Its ``ldm/modules/embedding_manager.py`` lies in the folder ``inversion``, to be put beside ours.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ldm.models.diffusion.ddpm import LatentDiffusion, disabled_train
from ldm.modules.encoders.modules import FrozenCLIPEmbedder
from ldm.util import default, get_obj_from_str


class PatchedCLIP(FrozenCLIPEmbedder):
    """The text encoder whose embedding layer asks a manager, patched on the one instance."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.manager = [None]  # no submodule: the hub holds it

        def embed(layer, input_ids=None, position_ids=None, inputs_embeds=None):
            length = input_ids.shape[-1]
            places = torch.arange(length, device=input_ids.device)[None]
            words = layer.token_embedding(input_ids) if inputs_embeds is None else inputs_embeds
            if self.manager[0] is not None:
                words = self.manager[0](input_ids, words)
            return words + layer.position_embedding(default(position_ids, places))

        layer = self.transformer.text_model.embeddings
        layer.forward = embed.__get__(layer)

    def encode(self, text, embedding_manager=None):
        self.manager[0] = embedding_manager
        return self(text)


class InversionLDM(LatentDiffusion):
    """The hub: only the manager's vector learns, and ``p_losses`` holds it back too."""

    def __init__(self, personalization_config, pull=0.1, *args, **kwargs):
        super().__init__(*args, cond_stage_trainable=True, **kwargs)
        self.pull = pull
        manager = get_obj_from_str(personalization_config.target)
        params = personalization_config.params
        self.embedding_manager = manager(self.cond_stage_model, **params)
        for part in (self.cond_stage_model, self.model):
            part.eval().requires_grad_(False)
            part.train = disabled_train.__get__(part)

    def get_learned_conditioning(self, c):
        return self.cond_stage_model.encode(c, embedding_manager=self.embedding_manager)

    def p_losses(self, x_start, cond, t, noise=None):
        noise = default(noise, lambda: torch.randn_like(x_start))
        x_noisy = self.q_sample(x_start=x_start, t=t, noise=noise)
        prediction = self.apply_model(x_noisy, t, cond)
        prefix = "train" if self.training else "val"
        simple = self.get_loss(prediction, noise, mean=False).mean([1, 2, 3])
        loss_dict = {f"{prefix}/loss_simple": simple.mean()}
        self.logvar = self.logvar.to(self.device)
        loss = self.l_simple_weight * (simple / self.logvar[t].exp() + self.logvar[t]).mean()
        bound = (self.lvlb_weights[t] * simple).mean()
        loss_dict[f"{prefix}/loss_vlb"] = bound
        loss = loss + self.original_elbo_weight * bound
        distance = self.embedding_manager.distance()
        loss_dict[f"{prefix}/loss_distance"] = distance
        loss = loss + self.pull * distance
        return loss, {**loss_dict, f"{prefix}/loss": loss}

    def configure_optimizers(self):
        learned = list(self.embedding_manager.embedding_parameters())
        return torch.optim.AdamW(learned, lr=self.learning_rate)

    @torch.no_grad()
    def on_save_checkpoint(self, checkpoint):
        checkpoint["state_dict"].clear()
        folder = self.trainer.checkpoint_callback.dirpath
        if os.path.isdir(folder):
            self.embedding_manager.save(Path(folder) / f"embeddings_gs-{self.global_step}.pt")
