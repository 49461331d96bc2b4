"""How fast the model draws, measured as it does; so how long something will take. No torch."""

from __future__ import annotations

import math
import threading

UNKNOWN = 5.0  # seconds to wait before anything has been measured
LONGEST = 3600.0
_NEWEST = 0.3  # the weight of the last batch against all before it


class Pace:
    """Costs a second, where a cost is a picture's millions of pixels times its steps."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._measuring = threading.Lock()

    @property
    def known(self) -> bool:
        """Whether anything has been measured."""
        return self._rate > 0.0

    def measure(self, cost: float, seconds: float) -> None:
        """Take a batch into account that has been drawn."""
        if seconds <= 0.0 or cost <= 0.0:
            return
        with self._measuring:
            rate = cost / seconds
            known = self._rate or rate
            self._rate = (1.0 - _NEWEST) * known + _NEWEST * rate

    def seconds(self, cost: float) -> int:
        """Return in how many whole seconds a cost will have been drawn, 1 to an hour."""
        rate = self._rate
        wait = cost / rate if rate else UNKNOWN
        return max(1, math.ceil(min(wait, LONGEST)))
