"""GET /healthz, /readyz and /metrics, for who runs the API; and /problems/{kind}, which says what an error means."""

import math
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request, Response
from prometheus_client.exposition import choose_encoder

from api.answers import JSON, Alive, Meaning, Ready
from api.dependencies import ServiceDep
from api.problems import BehindProblem, NotFoundProblem, problem_kinds, problems, shown
from api.routing import reads

READY_LAG_S: Final = 30.0
"""Beyond it answers may be older than a load balancer should give."""

router = APIRouter(tags=["operations"])


@reads(router, "/healthz", tagged=False, summary="Whether it is alive", response_model=Alive)
async def get_alive() -> JSON:
    """Say that this process is alive: it answers, whatever the store does."""
    return JSON({"status": "alive"})


@reads(
    router,
    "/readyz",
    tagged=False,
    summary="Whether it follows the log",
    response_model=Ready,
    responses=problems(BehindProblem),
)
def get_ready(service: ServiceDep) -> JSON:
    """Say how far the index is behind the log. 503 while it cannot follow."""
    lag_s = service.lag_s()
    if lag_s == math.inf:
        raise BehindProblem(f"The log has not been read yet: {service.failure or 'the index is being opened'}")
    if lag_s > READY_LAG_S:
        raise BehindProblem(
            f"The index was last seen to have the whole log {lag_s:.1f} s ago, and the limit is {READY_LAG_S:g} s: "
            f"{service.failure or 'it is catching up'}",
            applied_seq=service.index.applied_seq,
            seconds_behind=round(lag_s, 3),
        )
    behind = service.index.entries_behind()
    answer = {"applied_seq": service.index.applied_seq, "entries_behind": behind, "seconds_behind": round(lag_s, 3)}
    return JSON({"status": "ready"} | answer)


@reads(
    router,
    "/metrics",
    tagged=False,
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "In Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
)
def get_metrics(request: Request) -> Response:
    """All numbers for Prometheus: requests, index, references, files, this process."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(request.app.state.registry), headers={"Content-Type": content_type})


@reads(
    router,
    "/problems/{kind}",
    tagged=False,
    summary="What an error means",
    response_model=Meaning,
    responses=problems(NotFoundProblem),
)
async def get_problem(kind: Annotated[str, Path(description="The end of `type`.", examples=["gone"])]) -> JSON:
    """Say what the `type` of an error means."""
    kinds = problem_kinds()
    found = kinds.get(kind)
    if found is None:
        raise NotFoundProblem(f"No kind of problem {shown(kind)}", known=sorted(kinds))
    return JSON(
        {
            "type": f"/problems/{kind}",
            "title": found.title,
            "status": int(found.status),
            "meaning": (found.__doc__ or "").strip(),
        }
    )
