"""The report of a drift run, in Prefect's own UI and a real browser."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.drift_report import report
from tests.browser import browser
from tests.flows.drifting import compared, file_id, side

SHOWN = """(() => {
  const shown = document.querySelector('[data-testid=markdown-display]');
  const loaded = shown && [...shown.querySelectorAll('img')].filter(image => image.naturalWidth === 690);
  return loaded && loaded.length === 2 && {
    images: shown.querySelectorAll('img').length,
    tables: shown.querySelectorAll('table').length,
    links: [...shown.querySelectorAll('a')].map(link => link.href),
    text: shown.innerText,
  };
})()"""  # at once, since the page draws itself again
EVIL = "](http://evil.example) <img src=x onerror=alert(1)> www.evil.example `` | .wav"


@pytest.fixture
def ui_url(prefect_url: str) -> Iterator[str]:
    """Prefect's UI over the tests' server, which has none of its own."""
    import uvicorn
    from prefect.server.api.server import create_ui_app
    from prefect.settings import PREFECT_UI_API_URL, temporary_settings

    with temporary_settings({PREFECT_UI_API_URL: prefect_url}):
        server = uvicorn.Server(uvicorn.Config(create_ui_app(ephemeral=False), port=0, log_level="error", ws="none"))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.05)
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_the_report_is_shown_with_its_pictures_and_links(ui_url: str) -> None:
    from prefect import flow
    from prefect.artifacts import create_markdown_artifact

    sides = [side(2, 34, snr_db=15), side(1)]
    now, before = (replace(each, utterances=each.utterances.drop("embedding")) for each in sides)
    window = compared(now, before, names={str(file_id(2, number)): EVIL for number in range(34)})
    told = report([window], "http://calls.example:8000")

    @flow
    def drift() -> str:
        return str(create_markdown_artifact(told, key="drift-report"))

    with browser() as page:
        page.open(f"{ui_url}/v2/artifacts/artifact/{drift()}")
        shown = page.wait_for(SHOWN)
    assert (shown["images"], shown["tables"], len(shown["links"])) == (2, 2, 3)
    for link in shown["links"]:
        assert link.startswith("http://calls.example:8000/api/audio/00000000-0000-0002-")
        assert "#t=" in link
    assert shown["text"].startswith("Drift in the one window that closed: snr_db moved most")
    assert shown["text"].count("<img src=x onerror=alert(1)> www.evil.example") == 3
