"""Runs the API. `python -m api`."""

import contextlib
import resource
import sys
from typing import Final

from api.app import create_app
from api.ending import EndingServer
from api.server import server_config
from storage.errors import StorageError
from storage.lake import open_store
from storage.probe import require_conditional_writes
from storage.settings import Settings, get_settings, require_keys

FILES: Final = 65_536  # connections are files; many systems allow 1,024 until one asks for more


def main() -> None:
    """Serve until a signal ends it."""
    try:
        settings = get_settings()
        require_keys(settings)
        require_conditional_writes(open_store(settings.place))
    except StorageError as error:
        sys.exit(f"audiophile: {error}")
    allow_connections()
    app = create_app(settings)
    config = server_config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        log_level="warning",
    )
    with config.bind_socket() as listening:
        print(welcome(settings), file=sys.stderr, flush=True)  # noqa: T201  what a user reads; stdout has requests
        server = EndingServer(config, app.state.news.end)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
    if not server.started:
        sys.exit(1)  # uvicorn has said why


def welcome(settings: Settings) -> str:
    """Return the first line: where the API listens, and who may use it."""
    host = f"[{settings.api_host}]" if ":" in settings.api_host else settings.api_host
    where = f"audiophile: the API listens on http://{host}:{settings.api_port}"
    if settings.keys:
        return f"{where}; {len(settings.keys)} keys (AUDIOPHILE_API_KEYS)"
    return f"{where}, for this machine only, as there are no keys (AUDIOPHILE_API_KEYS)"


def allow_connections() -> None:
    """Let this process have as many connections as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main()
