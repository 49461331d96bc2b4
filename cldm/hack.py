"""Switches that ControlNet's scripts turn; what they are for happens here without them."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

__all__ = ["disable_verbosity", "enable_sliced_attention", "hack_everything"]


def disable_verbosity() -> None:
    """Let transformers report errors only."""
    from transformers import logging as transformers_logging

    transformers_logging.set_verbosity_error()


def enable_sliced_attention() -> None:
    """Say that nothing is sliced: attention here never holds all its scores at once."""
    logger.info("sliced attention is not needed: attention holds no matrix of scores in memory")


def hack_everything(clip_skip: int = 0) -> None:
    """Keep transformers quiet, and say how to get what else cldm's own hack does.

    Args:
        clip_skip: cldm's number of text layers to leave out; it has no effect here.
    """
    disable_verbosity()
    logger.warning(
        "hack_everything(clip_skip=%d) does not change the text encoder here: prompts of more than "
        "75 tokens and clip skip are asked for with --prompt_syntax a1111",
        clip_skip,
    )
