"""A flow that does nothing for long, for processes of runs that are killed."""

import time

from prefect import flow


@flow(name="sleeping")
def sleeping(seconds: float = 300) -> None:
    time.sleep(seconds)
