"""Runs the API. `python -m api`."""

import contextlib
import sys

import uvicorn

from api.app import create_app
from api.ending import EndingServer
from storage.errors import StorageError
from storage.lake import open_store
from storage.probe import require_conditional_writes
from storage.settings import get_settings


def main() -> None:
    """Serve until a signal ends it."""
    try:
        settings = get_settings()
        require_conditional_writes(open_store(settings.place))
    except StorageError as error:
        sys.exit(f"audiophile: {error}")
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        log_level="warning",
        timeout_graceful_shutdown=3,
    )
    server = EndingServer(config, app.state.news.end)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(1)  # uvicorn has said why


if __name__ == "__main__":
    main()
