"""A real Postgres for tests, on a port of this machine: `apt-get install postgresql`, of any version."""

import contextlib
import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.ports import free_port

PROGRAMS = Path("/usr/lib/postgresql")
NAME = "postgres"  # of the database, its user, and, where root runs the tests, which may not run it, the system's user


@contextlib.contextmanager
def postgres() -> Iterator[dict[str, str]]:
    """Run a server over a folder of its own; yield the variables that name it."""
    programs = sorted(PROGRAMS.glob("*/bin"), key=lambda path: int(path.parent.name))
    assert programs, "this needs Postgres: apt-get install postgresql"
    owner = NAME if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        if owner is not None:
            os.chown(folder, pwd.getpwnam(owner).pw_uid, -1)
        run = partial(_run, programs[-1], Path(folder), owner)
        run("initdb", "-A", "trust", "-U", NAME)
        port = free_port()
        options = f"-h 127.0.0.1 -p {port} -c unix_socket_directories= -c shared_buffers=32MB"
        run("pg_ctl", "-w", "-o", options, "-l", f"{folder}/log", "start")
        try:
            yield {"DB_HOST": "127.0.0.1", "DB_PORT": str(port), "DB_USER": NAME, "DB_NAME": NAME, "DB_PASSWORD": "any"}
        finally:
            run("pg_ctl", "-w", "-m", "fast", "stop")


def _run(programs: Path, folder: Path, owner: str | None, program: str, *arguments: str) -> None:
    command = [str(programs / program), "-D", str(folder / "data"), *arguments]
    with (folder / "out").open("ab") as out:
        subprocess.run(command, check=True, user=owner, cwd=folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
