"""The states of prompts with embeddings are those that diffusers computes."""

from __future__ import annotations

import embedding_files as files
import pytest
import torch
from tiny_diffusers import WIDTH, write_tiny_diffusers

from ldm.adapters.textual_inversion import read_embedding


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    from diffusers import StableDiffusionPipeline

    folder = write_tiny_diffusers(tmp_path_factory.mktemp("pipe"))
    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)


@pytest.fixture(scope="module")
def encoder(pipe):
    """Our encoder with diffusers' weights and, for ids, diffusers' letters."""
    from ldm.modules.encoders.clip_conditioner import CLIPTextConditioner
    from ldm.modules.encoders.clip_text import CLIPTextConfig
    from ldm.modules.encoders.tokenizer import PromptTokenizer

    words = pipe.tokenizer

    class Letters(PromptTokenizer):
        max_length, pad_token_id = 77, words.pad_token_id

        def encode(self, text):
            return words(text, add_special_tokens=False)["input_ids"]

        def offsets(self, text):
            return [(0, 0)] * len(self.encode(text))

        def _row(self, prompt, limit):
            ids = self.encode(prompt)[: None if limit is None else limit - 2]
            return [words.bos_token_id, *ids, words.eos_token_id]

    theirs = pipe.text_encoder.config
    config = CLIPTextConfig(
        vocab_size=theirs.vocab_size,
        hidden_size=theirs.hidden_size,
        intermediate_size=theirs.intermediate_size,
        num_hidden_layers=theirs.num_hidden_layers,
        num_attention_heads=theirs.num_attention_heads,
    )
    made = CLIPTextConditioner(Letters(), config)
    state = {
        f"text_model.{name.removeprefix('text_model.')}": value
        for name, value in pipe.text_encoder.state_dict().items()
        if not name.endswith("position_ids")
    }
    made.transformer.load_state_dict(state)
    return made


@pytest.mark.parametrize("write", [files.write_a1111, files.write_diffusers])
def test_states_are_those_of_diffusers_load_textual_inversion(write, pipe, encoder, v1, tmp_path):
    path = write(tmp_path / "sunny.bin", files.vectors(3, WIDTH))
    hub = torch.nn.Module()
    hub.model, hub.cond_stage_model = v1.model, encoder
    pipe.load_textual_inversion(str(path), token="<sunny>")
    try:
        for text in ("a <sunny> c", "<sunny> b <sunny>"):
            with torch.no_grad():
                theirs, _ = pipe.encode_prompt(text, "cpu", 1, False)
                with read_embedding(path, "<sunny>").attach(hub):
                    ours = encoder([text])
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
            assert not torch.allclose(ours, encoder([text.replace("<sunny>", "d")]))
    finally:
        pipe.unload_textual_inversion()
