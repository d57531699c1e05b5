"""Which recordings the log has said something new of, so that an answer kept elsewhere is known to be old.

It must not know what is kept, nor by whom.
"""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

LIMIT: Final = 500_000  # recordings, about 100 MB; beyond it all of them count as changed


class Changes:
    """The last log entry that touched each recording. One thread writes, any number ask."""

    def __init__(self) -> None:
        self._seqs: dict[bytes, int] = {}
        self._floor = 0

    def note(self, seq: int, file_ids: Iterable[bytes]) -> None:
        """Note that log entry `seq` says something of these recordings."""
        self._seqs.update(dict.fromkeys(file_ids, seq))
        if len(self._seqs) > LIMIT:
            self.note_all(seq)

    def note_all(self, seq: int) -> None:
        """Note that log entry `seq` may change what is shown of any recording."""
        self._floor = max(self._floor, seq)
        self._seqs = {}

    def has_changed(self, file_id: UUID, seq: int) -> bool:
        """Say whether a recording may look otherwise than after log entry `seq`."""
        return max(self._seqs.get(file_id.bytes, 0), self._floor) > seq
