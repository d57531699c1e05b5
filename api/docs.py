"""/docs: Swagger UI, from files that are installed with Audiophile, so that it works without internet.

It loads no script but its own, which the page's Content-Security-Policy holds it to.
"""

from typing import Final

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Audiophile</title>
<link rel="stylesheet" href="{up}docs/files/swagger-ui.css">
<link rel="icon" href="{up}docs/files/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui" data-document="{up}openapi.json"></div>
<script src="{up}docs/files/swagger-ui-bundle.js"></script>
<script src="{up}docs/start.js"></script>
</body>
</html>
"""

START: Final = """
const place = document.getElementById("swagger-ui");
SwaggerUIBundle({
  url: place.dataset.document,
  domNode: place,
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The page."""
    return HTMLResponse(PAGE.format(up=""))


@router.get("/docs/")
async def docs_below() -> HTMLResponse:
    """The page, from which links begin a level further down."""
    return HTMLResponse(PAGE.format(up="../"))


@router.get("/docs/start.js")
async def start() -> Response:
    """What starts Swagger UI."""
    return Response(START, media_type="text/javascript")


def show_docs(app: FastAPI) -> None:
    """Serve the page and Swagger UI's files."""
    app.include_router(router)
    app.mount("/docs/files", StaticFiles(packages=[("fastapi_swagger", "resources")]), name="docs")
