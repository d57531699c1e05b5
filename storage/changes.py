"""Which recordings the log has said something new of, so that an answer kept elsewhere is known to be old.

It must not know what is kept, nor by whom.
"""

import threading
from collections.abc import Iterable
from typing import Final
from uuid import UUID

LIMIT: Final = 500_000  # recordings, about 100 MB; beyond it all of them count as changed


class Changes:
    """The last log entry that touched each recording.

    Entries are noted in any order, by any thread, and again where an index begins anew; who asks waits for nobody.
    """

    def __init__(self) -> None:
        self._seqs: dict[bytes, int] = {}
        self._floor = self._noted = 0
        self._lock = threading.Lock()

    def begin(self, seq: int) -> None:
        """Note that an index begins after log entry `seq`: what entries say that it passed over, nobody will note."""
        with self._lock:
            if seq > self._noted:
                self._note_all(seq)

    def note(self, seq: int, file_ids: Iterable[bytes]) -> None:
        """Note that log entry `seq` says something of these recordings."""
        with self._lock:
            self._noted = max(self._noted, seq)
            for file_id in file_ids:
                if self._seqs.get(file_id, 0) < seq:
                    self._seqs[file_id] = seq
            if len(self._seqs) > LIMIT:
                self._note_all(self._noted)

    def note_all(self, seq: int) -> None:
        """Note that log entry `seq` may change what is shown of any recording."""
        with self._lock:
            self._note_all(seq)

    def _note_all(self, seq: int) -> None:
        """Do so; what is noted of later entries stays."""
        self._noted, self._floor = max(self._noted, seq), max(self._floor, seq)
        self._seqs = {file_id: noted for file_id, noted in self._seqs.items() if noted > seq}

    def has_changed(self, file_id: UUID, seq: int) -> bool:
        """Say whether a recording may look otherwise than after log entry `seq`."""
        return max(self._seqs.get(file_id.bytes, 0), self._floor) > seq
