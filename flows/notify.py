"""Tells of drift: an event of Prefect when it starts and when it ends, and an automation that passes both on.

It must not know how drift is found. The automation is run by Prefect's server, which sends each notification in its own
process, with a block that it can load there. None of those is called Apprise, but `SlackWebhook` hands every address
that is no webhook of Slack's to Apprise as it is (prefect/blocks/notifications.py, 3.8.8), so in Prefect's UI the block
is a "Slack Webhook". A class of our own would have to be installed wherever that server runs, and a deployment that
sends would need a free slot and seconds of start for one request.
"""

from dataclasses import asdict, dataclass
from typing import Final, Literal
from uuid import UUID

from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events import emit_event
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound

from flows.automations import keep_automation
from flows.errors import StartError
from storage.settings import Settings

Kind = Literal["started", "ended"]

RESOURCE: Final = "audiophile.drift"
EVENTS: Final[dict[Kind, str]] = {"started": f"{RESOURCE}.started", "ended": f"{RESOURCE}.ended"}
AUTOMATION: Final = "Audiophile: tell of drift"
BLOCK: Final = "audiophile-notify-url"
SHOWN: Final = 10
"""Descriptors that a notification lists; the event has them all."""


@dataclass(frozen=True, slots=True)
class Drifted:
    """One descriptor of which a test said drift."""

    descriptor: str
    detector: str
    statistic: float
    p_value: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told of the window with which drift started or ended."""

    window: UUID
    reference: UUID  # the newest of which the window has recordings
    baseline: str
    baseline_version: int
    drifted: tuple[Drifted, ...] = ()  # as they are to be named, the clearest first


def emit_drift(kind: Kind, notice: Notice, public_url: str) -> None:
    """Emit the event, and return once it has left this process, which may end right after.

    Prefect sends events from a queue, which it empties when the interpreter ends, but not when a signal ends it. Each
    call is another event: the server fails to write one whose id it had hours ago (write_events for SQLite, 3.8.8), so
    whoever calls must know that this was not told yet.

    Args:
        kind: What happened with the window.
        notice: What is told of it.
        public_url: Start of the links, without a slash at its end.
    """
    links = {"drift": f"{public_url}/api/drift", "reference": f"{public_url}/api/drift/{notice.reference}"}
    emitted = emit_event(
        EVENTS[kind],
        resource={"prefect.resource.id": RESOURCE, "prefect.resource.name": "Drift of the recordings"},
        payload={
            "window": str(notice.window),
            "reference": str(notice.reference),
            "baseline": notice.baseline,
            "baseline_version": notice.baseline_version,
            "drifted": [asdict(drifted) for drifted in notice.drifted],
            "links": links,
            "subject": subject(kind, notice),
            "text": text(kind, notice, list(links.values())),
        },
    )
    if emitted is not None:
        EventsWorker.instance().drain()  # unlike `wait_until_empty`, it returns when the server cannot be reached


def subject(kind: Kind, notice: Notice) -> str:
    """Return the line that a notification begins with."""
    if kind == "ended":
        return "Audiophile: drift has ended"
    return (
        f"Audiophile: drift has started ({notice.drifted[0].descriptor})"
        if notice.drifted
        else ("Audiophile: drift has started")
    )


def text(kind: Kind, notice: Notice, links: list[str]) -> str:
    """Return what a notification says; each line is a sentence, as some receivers join lines."""
    verdict = "differ from" if kind == "started" else "do not differ any more from"
    lines = [
        f"The recordings of window {notice.window} {verdict} the baseline {notice.baseline}, "
        f"version {notice.baseline_version}."
    ]
    lines += [
        f"{one.descriptor}: {one.detector} {one.statistic:.3g}, p {one.p_value:.2g}, threshold {one.threshold:.2g}."
        for one in notice.drifted[:SHOWN]
    ]
    if len(notice.drifted) > SHOWN:
        lines.append(f"And {len(notice.drifted) - SHOWN} more.")
    return "\n".join([*lines, *links])


def ensure_automation(settings: Settings) -> None:
    """Make sure that Prefect's server has exactly the automation that is set: one, or none.

    One that is paused in Prefect's UI stays paused.
    """
    address = settings.notify_url.get_secret_value()
    with get_client(sync_client=True) as client:
        if not address or "notify" not in settings.on_drift:
            for automation in client.read_automations_by_name(AUTOMATION):
                client.delete_automation(automation.id)
            _forget_address(client)
            return
        keep_automation(client, _automation(_keep_address(address)))


def _automation(block_id: UUID) -> AutomationCore:
    """Return the automation. An update sends only what is named here, and the server needs types and posture."""
    return AutomationCore(
        name=AUTOMATION,
        description="Made from ON_DRIFT and NOTIFY_URL when the service starts; changes made here last until then.",
        enabled=True,
        trigger=EventTrigger(
            type="event",
            posture=Posture.Reactive,
            expect=set(EVENTS.values()),
            match={"prefect.resource.id": RESOURCE},
        ),
        actions=[
            SendNotification(
                type="send-notification",
                block_document_id=block_id,
                subject="{{ event.payload.subject }}",
                body="{{ event.payload.text }}",
            )
        ],
    )


def _keep_address(address: str) -> UUID:
    """Put the address into its block, where the server keeps it encrypted; return the block's id."""
    saved = SlackWebhook.model_validate({"url": address}).save(BLOCK, overwrite=True)
    if not isinstance(saved, UUID):  # `save` is a coroutine inside an event loop
        raise StartError("the address of notifications cannot be kept inside a running event loop")
    return saved


def _forget_address(client: SyncPrefectClient) -> None:
    try:
        block = client.read_block_document_by_name(BLOCK, SlackWebhook.get_block_type_slug(), include_secrets=False)
    except ObjectNotFound:
        return
    client.delete_block_document(block.id)
