"""Says by its first bytes whether content can be a recording at all. It must not decode, and reads no further.

A table of the marks that libsndfile tells formats by, and not libsndfile: headers that come from anywhere are parsed in
the process of `flows.decoder`, which may crash or fill its memory, and never in the API's. The table may let through
what decoding refuses, and must refuse nothing that decoding accepts; tests compare both. Formats without a header (raw
samples, and SD2, whose header is another file) cannot be told from other bytes, and ingest decodes none of them.
"""

import re
from typing import Final

HEAD_BYTES: Final = 12
"""So many first bytes libsndfile looks at."""


def _any_of(*bits: tuple[int, int]) -> bytes:
    """Return a pattern for one byte that has, for each mask, not the given bits."""
    allowed = (byte for byte in range(256) if all(byte & mask != value for mask, value in bits))
    return b"[" + b"".join(rb"\x%02x" % byte for byte in allowed) + b"]"


_FRAME_SYNC: Final = b"\xff" + b"".join(
    (
        rb"(?=[\xe0-\xff])",  # the sync's last three bits
        _any_of((0x18, 0x08), (0x06, 0x00)),  # a version, and a layer: ADTS (AAC) has none
        _any_of((0xF0, 0xF0), (0x0C, 0x0C)),  # a bit rate, and a sample rate
    )
)

_KNOWN: Final = {
    "WAV": rb"RIF[FX].{4}WAVE",
    "RF64": rb"RF64.{4}WAVE",
    "W64": rb"riff",
    "FLAC": rb"fLaC",
    "OGG": rb"OggS",
    "MP3": _FRAME_SYNC,
    "MP3 behind a tag, or another format there": rb"ID3[\x02-\x04]",
    "AIFF": rb"FORM.{4}AIF[FC]",
    "SVX": rb"FORM.{4}(?:8SVX|16SV)",
    "AU": rb"\.snd|dns\.",
    "CAF": rb"caff.{4}desc",
    "PAF": rb" paf|fap ",
    "NIST": rb"NIST",
    "VOC": rb"Creative",
    "IRCAM": rb"\x64\xa3[\x00-\x07]\x00|\x00[\x00-\x07]\xa3\x64",
    "MAT4": rb"\x00\x00\x03\xe8\x00\x00\x00\x01\x00\x00\x00\x01|\x00{4}\x01\x00{3}\x01\x00{3}",
    "MAT5": rb"MATLAB 5",
    "PVF": rb"PVF1",
    "XI": rb"Extended Ins",
    "WVE": rb"ALawSoundFil",
    "DWD": rb"DiamondWare ",
    "TXW": rb"LM89|53\x00\x00",
    "SDS": rb"\xf0\x7e[\x00-\x7f]\x01",
    "MPC2K": rb"\x01\x04",
    "REX2": rb"CAT .{4}REX2",
    "HTK": rb".{8}\x00\x02\x00\x00",
    "AVR": rb"2BIT",
}
_RECORDING: Final = re.compile(b"|".join(_KNOWN.values()), re.DOTALL)

_OTHERS: Final = {
    "MP4 or M4A": rb".{4}ftyp",
    "Matroska or WebM": rb"\x1aE\xdf\xa3",
    "AVI": rb"RIFF.{4}AVI ",
    "AAC": rb"\xff[\xf0\xf1\xf8\xf9]",
    "WMA": rb"0&\xb2u\x8ef\xcf\x11",
    "AMR": rb"#!AMR",
    "a ZIP archive": rb"PK\x03\x04",
    "gzip": rb"\x1f\x8b",
    "PDF": rb"%PDF",
}
"""What people send by mistake most, for a reason that helps them."""

_REMEDY: Final = "Convert it to WAV, FLAC, OGG or MP3"


def refusal(head: bytes) -> str | None:
    """Return why content that begins like this cannot be a recording; None where it can be one.

    Args:
        head: The first HEAD_BYTES of the content, or all of it where it is shorter.
    """
    if not head:
        return "is empty: send the bytes of a recording"
    if len(head) < HEAD_BYTES:
        return f"has {len(head)} bytes, and no recording has fewer than {HEAD_BYTES}. Check how it was recorded"
    if _RECORDING.match(head):
        return None
    for name, pattern in _OTHERS.items():
        if re.match(pattern, head, re.DOTALL):
            return f"looks like {name}, which no decoder here reads. {_REMEDY}"
    return f"begins with {head[:4].hex(' ')}, which no decoder here knows as a recording. {_REMEDY}"
