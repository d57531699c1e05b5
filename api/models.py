"""GET /api/models: the model group, and which of its models could be loaded when they were last tried."""

from fastapi import APIRouter

from api.answers import JSON, Model, utc
from api.dependencies import ServiceDep
from api.routing import reads
from storage.availability import read_tried

router = APIRouter(prefix="/api/models", tags=["models"])


@reads(router, "", tagged=False, response_model=list[Model])
def list_models(service: ServiceDep) -> JSON:
    """All models of the group as the last run found it, by name."""
    service.index.catch_up()
    rows = service.index.query(
        "SELECT name, version, task, enabled FROM group_models WHERE seq = ? ORDER BY name", [service.index.group_seq]
    )
    tried = {(each.name, each.version): each for each in read_tried(service.lake.store).values()}
    answers = []
    for row in rows:
        found = tried.get((row["name"], row["version"])) if row["enabled"] else None
        answers.append(
            row
            | {
                "available": found and found.reason is None,
                "reason": found and found.reason,
                "since": utc(found.since) if found else None,
            }
        )
    return JSON(answers)
