"""Edit a picture by editing its prompt: prompt-to-prompt, word by word.

Example:
    python scripts/swap.py --sprompt "a cat on a red background" \
        --prompt "a dog on a red background" --is-swap
"""

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.programs.start import leave
from ldm.programs.swapping import SwapProgram

DESCRIPTION = (
    "Edit a picture by editing its prompt: the picture of --sprompt (the source) becomes that of "
    "--prompt (the target), and what the prompts have in common stays where it is."
)


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return SwapProgram(DESCRIPTION).main(argv)


if __name__ == "__main__":
    leave(main())
