"""Shows how far long work is, to whoever waits at a terminal. It must not know what the work is."""

import sys
import time
from typing import Final

EVERY_S: Final = 0.2
EVERY_S_IN_LOGS: Final = 30.0


class Ticker:
    """Shows progress on a terminal as a line that changes, elsewhere as a line every half minute."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._shown_at = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show it, unless something was shown just now."""
        now = time.monotonic()
        if now - self._shown_at < (EVERY_S if self._is_terminal else EVERY_S_IN_LOGS):
            return
        line = f"{what}: {done:,} of {total:,}"
        sys.stderr.write(f"\r\x1b[K{line}" if self._is_terminal else f"{line}\n")
        sys.stderr.flush()
        self._shown_at = now

    def close(self) -> None:
        """Leave a clean line."""
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")
