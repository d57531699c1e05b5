"""A flow that tells of the process that it runs in."""

import json
import os
import random
import sys
import time

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed


@flow(name="telling")
def telling(word: str, seconds: float = 0) -> State[None]:
    get_run_logger().info("the word is %s", word)
    time.sleep(seconds)
    told = {
        "word": word,
        "run": os.environ["PREFECT__FLOW_RUN_ID"],
        "parent": os.getppid(),
        "chance": random.random(),
        "torch": "torch" in sys.modules,
        "polars": "polars" in sys.modules,
    }
    return Completed(message=json.dumps(told))
