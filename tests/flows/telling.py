"""A flow that tells of the process that it runs in."""

import json
import os
import random
import sys
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tests.waiting import wait_for


@flow(name="telling")
def telling(word: str, until: str = "") -> State[None]:
    """Tell, once there is a file."""
    get_run_logger().info("the word is %s", word)
    if until:
        wait_for("file", Path(until).exists, 600)
    told = {
        "word": word,
        "run": os.environ["PREFECT__FLOW_RUN_ID"],
        "parent": os.getppid(),
        "chance": random.random(),
        "torch": "torch" in sys.modules,
        "polars": "polars" in sys.modules,
    }
    return Completed(message=json.dumps(told))
