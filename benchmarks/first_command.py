"""Which words for the README's first command? The oracle looks at what each wording draws.

The command draws six pictures of an astronaut on a horse with the program's defaults. Here it is
asked for them on each background that the model knows, and on none; a picture is right if the
oracle finds both things, one riding the other, on the background that was asked for.

    python benchmarks/first_command.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout

from benchmarks.demo_flags import check_demo, demo_parser
from ldm.errors import UserError

THINGS = ("astronaut", "horse")
PROMPT = "a photograph of an astronaut riding a horse"


def wordings() -> dict[str, str]:
    """Return prompts, and the background that each asks for; "" is any."""
    from ldm.data.demo.scene_captions import with_article
    from ldm.data.demo.scene_vocabulary import COLOURS

    return {PROMPT: ""} | {
        f"{PROMPT} on {with_article(colour)} background": colour for colour in COLOURS
    }


def measure(config: Path, ckpt: Path) -> list[tuple[int, float, str]]:
    """Draw every wording and judge it.

    Args:
        config: The model's YAML.
        ckpt: Its weights.

    Returns:
        How many of its pictures are right, the least part of one that the things account for, and
        the wording: the best first.
    """
    import torch
    from tqdm import tqdm

    from benchmarks.scene_oracle import SceneOracle, shows_layout
    from ldm.pipelines.models import find_model
    from ldm.pipelines.pipeline import Pipeline
    from ldm.settings.generation import Txt2ImgSettings

    pipeline = Pipeline.load(find_model(Txt2ImgSettings(config=str(config), ckpt=str(ckpt))))
    oracle, table = SceneOracle(), []
    for prompt, background in tqdm(wordings().items()):
        pictures = pipeline.generate(pipeline.settings(prompt=prompt, safety_checker="off"))
        seen = [
            oracle.look(torch.from_numpy(each.plain).movedim(-1, 0)[None] / 127.5 - 1, 2)[0]
            for each in pictures
        ]
        right = [
            shows_layout(sight, THINGS, "riding") and background in ("", sight.background)
            for sight in seen
        ]
        table.append((sum(right), min(sight.explained for sight in seen), prompt))
    return sorted(table, reverse=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    options = demo_parser(__doc__).parse_args(argv)
    try:
        check_demo(options)
        table = measure(options.config, options.ckpt)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print("| right of 6 | least explained | prompt |\n|---|---|---|")
    for right, least, prompt in table:
        print(f"| {right} | {least:.2f} | {prompt} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
