"""The FastAPI application, put together."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from api import audio, events, files, models, peaks, uploads
from api.dependencies import Service
from api.news import News
from api.openapi import describe
from api.problems import answer_problems
from api.trigger import IngestTrigger
from storage.lake import Lake
from storage.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Return the API over the lake that `settings` name."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        lake = Lake.open(settings.place)
        service = Service(settings, lake, lake.index(), IngestTrigger(settings.prefect_url), news)
        news.begin()
        follower = threading.Thread(target=service.follow, name="index", daemon=True)
        follower.start()
        service.trigger.start()
        app.state.service = service
        yield
        service.stop()
        service.trigger.stop()
        follower.join()
        service.index.close()

    news = News()
    app = FastAPI(
        title="Audiophile",
        version=version("audiophile"),
        description="Recordings and the latest predictions of the model group for them.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.news = news
    app.include_router(uploads.router)
    app.include_router(files.router)
    app.include_router(models.router)
    app.include_router(audio.router)
    app.include_router(peaks.router)
    app.include_router(events.router)
    answer_problems(app)
    describe(app, keys=False, is_open=frozenset())
    return app
