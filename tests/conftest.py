"""Make the repository importable as it stands, and the tests' own helpers beside it.

Tests write ``from golden.fill import official_state`` and ``from oracle import GaussianModel``.
"""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
for folder in (TESTS, TESTS.parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
