"""Tables as bytes in the format that a client prefers, block by block. It must not know where they come from."""

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import mimeparse
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from api.problems import NotAcceptableProblem, shown

JSON_ROWS: Final = 8_192
"""How many rows are Python objects at a time."""

FormatName = Literal["json", "parquet", "arrow"]
Blocks = Iterable[pa.Table]


@dataclass(frozen=True, slots=True)
class Format:
    """A way to write tables.

    Attributes:
        suffix: Of a file's name.
        inline: Browsers show it; the others are saved.
        write: Turns blocks of one schema into bytes.
    """

    media_type: str
    suffix: str
    inline: bool
    write: Callable[[Blocks, pa.Schema], Iterator[bytes]]


def chosen(name: FormatName | None, accept: str) -> Format:
    """Return the format that a request asks for by name, or else by its header `Accept` (RFC 9110, 12.5.1).

    Raises:
        NotAcceptableProblem: It accepts none of those that there are.
    """
    if name is not None:
        return FORMATS[name]
    by_type = {format_.media_type: format_ for format_ in reversed(FORMATS.values())}  # of equals, the last one
    try:
        best = mimeparse.best_match(list(by_type), accept.lower() or "*/*")
    except mimeparse.MimeTypeParseException:
        best = ""
    if best not in by_type:
        there_is = [format_.media_type for format_ in FORMATS.values()]
        raise NotAcceptableProblem(
            f"Accept: {shown(accept)} allows none of {', '.join(there_is)}: ask for one of them, or with ?format=",
            available=there_is,
        )
    return by_type[best]


def _json(blocks: Blocks, _schema: pa.Schema) -> Iterator[bytes]:
    start = b"["
    for block in blocks:
        for first in range(0, block.num_rows, JSON_ROWS):
            yield start + orjson.dumps(block.slice(first, JSON_ROWS).to_pylist())[1:-1]
            start = b","
    yield b"[]" if start == b"[" else b"]"


def _parquet(blocks: Blocks, schema: pa.Schema) -> Iterator[bytes]:
    repetitive = [field.name for field in schema if not pa.types.is_floating(field.type)]
    sink = _Sink()
    with pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=repetitive) as writer:
        for block in blocks:
            writer.write_table(block)
            yield sink.taken()
    yield sink.taken()


def _arrow(blocks: Blocks, schema: pa.Schema) -> Iterator[bytes]:
    sink = _Sink()
    with pa.ipc.new_stream(sink, schema) as writer:
        for block in blocks:
            writer.write_table(block)
            yield sink.taken()
    yield sink.taken()


FORMATS: Final[dict[FormatName, Format]] = {
    "json": Format("application/json", ".json", True, _json),
    "parquet": Format("application/vnd.apache.parquet", ".parquet", False, _parquet),
    "arrow": Format("application/vnd.apache.arrow.stream", ".arrows", False, _arrow),
}


class _Sink(io.RawIOBase):
    """A file that is written to its end, and forgets what was taken from it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._parts.append(bytes(content))
        self._size_bytes += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._size_bytes

    def taken(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken
