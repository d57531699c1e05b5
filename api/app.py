"""The FastAPI application, put together."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware import Middleware

from api import (
    audio,
    diff,
    drift,
    erasing,
    events,
    files,
    health,
    history,
    models,
    peaks,
    predictions,
    references,
    search,
    uploads,
)
from api.cache import AnswerCache
from api.dependencies import Service
from api.docs import show_docs
from api.guard import Guard, is_open
from api.headers import SecureHeaders, cors
from api.lingering import Linger
from api.metrics import registry
from api.news import News
from api.observe import AccessLog, Observe, Traffic
from api.openapi import TAGS, describe, operation_id
from api.problems import AnswerProblems, answer_problems
from api.trigger import Trigger
from storage.lake import Lake
from storage.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Return the API over the lake that `settings` name."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        lake = Lake.open(settings.place)
        trigger = Trigger(settings.prefect_url, settings.prefect_auth.get_secret_value())
        service = Service(settings, lake, lake.index(), trigger, news)
        news.begin()
        follower = threading.Thread(target=service.follow, name="index", daemon=True)
        follower.start()
        service.trigger.start()
        app.state.service, app.state.registry = service, registry(service, traffic)
        if access_log is not None:
            access_log.start()
        yield
        if access_log is not None:
            access_log.stop()
        service.stop()
        service.trigger.stop()
        follower.join()
        service.index.close()

    traffic, access_log = Traffic(), AccessLog() if settings.api_access_log else None
    cors_if_wanted = [Middleware(cors, settings.api_cors_origins)] if settings.api_cors_origins else []
    news = News()
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
        docs_url=None,
        redoc_url=None,
        middleware=[  # the outermost first
            Middleware(Linger),
            Middleware(Observe, traffic, access_log),
            Middleware(SecureHeaders, cors=bool(settings.api_cors_origins)),
            *cors_if_wanted,
            Middleware(Guard, settings),
            Middleware(AnswerProblems),
            Middleware(AnswerCache),
        ],
    )
    app.state.news = news
    app.include_router(uploads.router)
    app.include_router(files.router)
    app.include_router(erasing.router)
    app.include_router(search.router)
    app.include_router(models.router)
    app.include_router(audio.router)
    app.include_router(peaks.router)
    app.include_router(events.router)
    app.include_router(references.router)
    app.include_router(predictions.router)
    app.include_router(diff.router)
    app.include_router(history.router)
    app.include_router(drift.router)
    app.include_router(health.router)
    show_docs(app)
    answer_problems(app)
    describe(app, keys=bool(settings.keys), is_open=is_open)
    return app
