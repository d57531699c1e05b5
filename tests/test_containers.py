"""What docker-compose.yml, Dockerfile and .dockerignore say; `make containers` runs them."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.up import SERVICES
from storage.settings import Settings

PROJECT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if name in SERVICES}
DOCKERFILE = (PROJECT / "Dockerfile").read_text()
KNOWN = {str(field.validation_alias) for field in Settings.model_fields.values()}
FIXED = {"AUDIOPHILE_LOCAL", "FILE_PATH", "API_PORT", "PREFECT_PORT"}  # within a container; ports are as published


def environment(service: str) -> dict[str, Any]:
    return COMPOSE["services"][service]["environment"]


def test_each_service_of_ours_is_one_alone_from_the_one_image() -> None:
    assert OURS.keys() == {"prefect", "flows", "api"}
    for name, service in OURS.items():
        assert service["command"] == f"python -m flows.up {name}"
        assert service["image"] == COMPOSE["services"]["prefect"]["image"]


def test_only_the_api_and_the_ui_are_published_and_by_default_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert published == {
        "prefect": ["${PUBLISHED_ON:-127.0.0.1}:${PREFECT_PORT:-4200}:4200"],
        "api": ["${PUBLISHED_ON:-127.0.0.1}:${API_PORT:-8000}:8000"],
    }


def test_every_service_starts_again_and_says_whether_it_is_well() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert "curl" not in json.dumps(service["healthcheck"]), name


@pytest.mark.parametrize(("service", "after"), [("prefect", "postgres"), ("flows", "prefect"), ("api", "prefect")])
def test_a_service_waits_until_what_it_needs_is_well(service: str, after: str) -> None:
    assert COMPOSE["services"][service]["depends_on"] == {after: {"condition": "service_healthy"}}


def test_a_run_in_hand_has_time_to_hand_over() -> None:
    assert COMPOSE["services"]["flows"]["stop_grace_period"] == "40s"


def test_what_is_stored_outlives_the_containers() -> None:
    assert COMPOSE["volumes"].keys() == {"data", "postgres", "s3"}
    for name, service in COMPOSE["services"].items():
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= COMPOSE["volumes"].keys(), name


def test_nothing_of_ours_runs_as_root_or_may_become_it() -> None:
    for stage in DOCKERFILE.split("\nFROM ")[1:]:
        name = stage.splitlines()[0].rpartition(" AS ")[2]
        if name in ("audiophile", "s3"):
            assert stage.rstrip().endswith("USER audiophile"), name
    for name, service in (OURS | {"s3": COMPOSE["services"]["s3"]}).items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_images_are_pinned_and_packages_are_those_of_the_constraints() -> None:
    images = {service["image"] for service in COMPOSE["services"].values()}
    images |= {name for name in re.findall(r"^FROM (\S+)", DOCKERFILE, re.M) if name != "base"}
    for image in images:
        assert re.fullmatch(r"[a-z0-9-]+:\d[\w.-]+", image), image
    installed = re.findall(r"pip install .*", DOCKERFILE)
    assert installed
    assert all("-c constraints.txt" in line for line in installed)


def test_a_change_of_code_installs_nothing_again() -> None:
    packages, code = DOCKERFILE.index('-e ".[$EXTRAS]"'), DOCKERFILE.index("COPY --from=code")
    before = DOCKERFILE[DOCKERFILE.index("AS audiophile") : packages]
    assert packages < code
    assert re.findall(r"^COPY (.*)", before, re.M) == ["pyproject.toml constraints.txt LICENSE ./"]


def test_the_image_gets_every_package_and_no_tests() -> None:
    kept = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert kept == {*packages, "pyproject.toml", "constraints.txt", "LICENSE", "README.md", "prefect.yaml", "Procfile"}


def test_every_setting_reaches_a_container_and_none_is_unknown() -> None:
    given = set().union(*(environment(name) for name in OURS))
    assert given >= KNOWN - FIXED
    assert {name for name in given - KNOWN if not name.startswith("PREFECT_")} == set()
    assert not given & FIXED
    assert "\nENV AUDIOPHILE_LOCAL=/data\n" in DOCKERFILE, "the volume, for `docker run` as well"


def test_secrets_are_demanded_with_the_way_to_make_one() -> None:
    demanded = environment("api")["AUDIOPHILE_API_KEYS"], environment("postgres")["POSTGRES_PASSWORD"]
    assert all(":?" in value and "openssl rand -hex 24" in value for value in demanded)


def test_secrets_reach_those_alone_that_need_them() -> None:
    def having(variable: str) -> list[str]:
        return [name for name in COMPOSE["services"] if variable in environment(name)]

    assert having("AUDIOPHILE_API_KEYS") == ["api"]
    assert having("NOTIFY_URL") == ["flows"]
    assert having("DB_PASSWORD") == ["prefect"]
    assert having("AWS_SECRET_ACCESS_KEY") == ["flows", "api", "s3"]


def test_prefect_asks_for_a_password_whatever_is_set() -> None:
    assert environment("prefect")["PREFECT_API_AUTH_STRING"] == "${PREFECT_API_AUTH_STRING:-admin:$DB_PASSWORD}"


def test_the_s3_server_is_there_when_it_is_asked_for() -> None:
    assert [name for name, service in COMPOSE["services"].items() if service.get("profiles") == ["s3"]] == ["s3"]
