"""The README says what is true: its settings, its routes, its figures' source."""

import re
from pathlib import Path

from api.app import create_app
from flows.deployments import read_deployments
from storage.settings import Settings

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_settings_table_has_every_setting_with_its_default_and_description() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_0-9]+)` \| (.*) \|$", README, flags=re.MULTILINE))
    fields = {str(field.validation_alias): field for field in Settings.model_fields.values()}
    assert rows.keys() == fields.keys()
    for name, field in fields.items():
        default, _, description = rows[name].partition(" | ")
        assert description == field.description
        value = field.get_default()
        if isinstance(value, tuple):
            assert default == (f"`{','.join(value)}`" if value else "")
        elif isinstance(value, int | float) and name != "AUDIOPHILE_WORKERS":
            assert default == f"`{value + 0}`"


def test_the_readme_shows_every_route() -> None:
    paths = create_app(Settings(_env_file=None)).openapi()["paths"]
    shown = set(re.findall(r"`(GET|POST|DELETE|HEAD|PUT|PATCH) (/\S+)`", README))
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == shown


def test_settings_of_the_example_file_exist() -> None:
    names = re.findall(r"^#?([A-Z_]+)=", (PROJECT / ".env.example").read_text(), flags=re.MULTILINE)
    assert names
    assert set(names) <= {str(field.validation_alias) for field in Settings.model_fields.values()}


def test_the_flows_are_deployed_one_run_at_a_time() -> None:
    deployments = {deployment.name: deployment for deployment in read_deployments()}
    intervals = {
        name: [schedule.interval for schedule in deployment.schedules] for name, deployment in deployments.items()
    }
    assert intervals == {"ingest": [120], "infer": [120], "drift": [3_600], "maintain": [86_400]}
    for deployment in deployments.values():
        assert deployment.concurrency_limit is not None
        assert deployment.concurrency_limit.limit == 1


def test_pinned_versions_carry_no_addresses() -> None:
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", line) for line in lines if not line.startswith("#"))
