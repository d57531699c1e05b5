"""Keeps Prefect's automations as they are wanted, one of a name. It must not know what they are for."""

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore


def keep_automation(client: SyncPrefectClient, wanted: AutomationCore) -> None:
    """Make sure that Prefect's server has exactly one automation of the name of `wanted`, and that it is like it.

    Prefect makes another one whenever it is asked to. One that is paused in Prefect's UI stays paused.
    """
    present = client.read_automations_by_name(wanted.name)
    if not present:
        client.create_automation(wanted)
        return
    kept, *others = present
    client.update_automation(kept.id, wanted.model_copy(update={"enabled": kept.enabled}))
    for automation in others:
        client.delete_automation(automation.id)
