"""Flags that the measures of the bundled model share, and their check. Imports no torch."""

from __future__ import annotations

import argparse

from ldm.errors import UserError
from ldm.pipelines.models import DEMO_CHECKPOINT, DEMO_CONFIG, find


def demo_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a command line that asks for a model."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config", default=DEMO_CONFIG, help="YAML of the model (default: %(default)s)")
    add("--ckpt", default=DEMO_CHECKPOINT, help="its weights (default: %(default)s)")
    return parser


def add_walk(parser: argparse.ArgumentParser, sampler: str, steps: int, seed: str) -> None:
    """Add how pictures are drawn.

    Args:
        parser: The program's.
        sampler: The default.
        steps: The default.
        seed: What ``--seed`` means.
    """
    add = parser.add_argument
    add("--sampler", default=sampler, help="as of scripts/txt2img.py (default: %(default)s)")
    add("--steps", type=int, default=steps, help="sampling steps (default: %(default)s)")
    add("--spacing", default="linspace", help="of the steps (default: %(default)s)")
    add("--batch_size", type=int, default=20, help="prompts at a time (default: %(default)s)")
    add("--seed", type=int, default=0, help=seed)


def check_demo(options: argparse.Namespace, **least: int) -> None:
    """Refuse counts that are too small and a model that is not there; find the model.

    Args:
        options: ``config`` and ``ckpt`` become the paths that were found.
        **least: The smallest value of each count, by its flag.

    Raises:
        UserError: One of them is.
    """
    for name, smallest in least.items():
        given = getattr(options, name)
        if given < smallest:
            raise UserError(f"--{name} {given} was given; expected {smallest} or more; correct it")
    for name in ("config", "ckpt"):
        path = find(getattr(options, name))
        if not path.is_file():
            raise UserError(
                f"--{name}: there is no file {path}; expected a trained demo model; train one"
                " (configs/demo) or give the paths of another"
            )
        setattr(options, name, path)
