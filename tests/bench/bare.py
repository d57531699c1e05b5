"""The least that FastAPI can do: a route that returns bytes from memory. What the API's speed is compared with."""

import json
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Response


def bare(answers: dict[str, bytes]) -> FastAPI:
    app = FastAPI()

    @app.get("/api/files/{file_id}")
    async def get_file(file_id: str) -> Response:
        return Response(answers[file_id], media_type="application/json")

    return app


if __name__ == "__main__":
    held = json.loads(Path(sys.argv[1]).read_text())
    uvicorn.run(
        bare({file_id: answer.encode() for file_id, answer in held.items()}),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        log_level="warning",
        access_log=False,
    )
