"""The FastAPI application, put together."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from api import diff, erasing, files, history, models, predictions, references, uploads
from api.dependencies import Service
from api.lingering import Linger
from api.openapi import TAGS, describe, operation_id
from api.problems import answer_problems
from api.trigger import Trigger
from storage.lake import Lake
from storage.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Return the API over the lake that `settings` name."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        lake = Lake.open(settings.place)
        service = Service(settings, lake, lake.index(), Trigger(settings.prefect_url))
        follower = threading.Thread(target=service.follow, name="index", daemon=True)
        follower.start()
        service.trigger.start()
        app.state.service = service
        yield
        service.stop()
        service.trigger.stop()
        follower.join()
        service.index.close()

    app = FastAPI(
        title="Audiophile",
        version=version("audiophile"),
        description="Recordings and the latest predictions of the model group for them.",
        lifespan=lifespan,
        redirect_slashes=False,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": settings.base_url.rstrip("/") or "/"}],
        openapi_tags=TAGS,
        generate_unique_id_function=operation_id,
    )
    app.include_router(uploads.router)
    app.include_router(files.router)
    app.include_router(erasing.router)
    app.include_router(models.router)
    app.include_router(references.router)
    app.include_router(predictions.router)
    app.include_router(diff.router)
    app.include_router(history.router)
    app.add_middleware(Linger)  # the outermost: it sees the answers of all others
    answer_problems(app)
    describe(app, keys=False, is_open=frozenset())
    return app
