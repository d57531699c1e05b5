"""The doctor says of this host and its lake what does not work and what to do, and nothing else is in its way."""

import dataclasses
import io
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from flows import doctor_clock, doctor_lake, doctor_models, doctor_python
from flows.diagnosis import Level, fail, guarded, show
from flows.doctor import findings
from flows.doctor_host import look_at_folder, look_at_host, look_at_port, look_at_room
from models.group import GROUP_FILE, ModelSpec, load_group
from storage.availability import Tried, write_tried
from storage.lake import Lake
from storage.log import entry_path
from storage.manifest import newest_manifest
from storage.settings import Settings, get_settings
from storage.snapshot import fold
from storage.store import LocalStore
from tests.storage.conftest import Author
from tests.system.service import PROJECT, environment


def doctor(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "flows.doctor", *arguments],
        check=False,
        cwd=PROJECT,
        env=environment(folder, **settings),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def author(tmp_path: Path) -> Author:
    """An author whose lake has an entry."""
    lake = Lake.open(tmp_path / "lake")
    author = Author(lake, lake.index())
    author.ingest("a")
    return author


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what says which versions are needed."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((PROJECT / name).read_bytes())
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_with_nothing_running_there_is_nothing_to_mend(tmp_path: Path) -> None:
    result = doctor(tmp_path)
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines[:-2]} == {"ok", "warn"}, result.stdout
    assert "no Prefect server answers" in result.stdout
    assert "0 to mend" in lines[-1]
    assert result.returncode == 0
    assert not (tmp_path / "data").exists()


def test_what_does_not_work_makes_a_line_and_the_exit_code_and_the_others_are_still_looked_at(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = doctor(tmp_path, API_PORT=str(port))
    assert result.returncode == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("FAIL")]
    assert f"API_PORT={port}: cannot be listened on" in line
    assert f"API_PORT={port + 1} make up" in line
    assert "model " in result.stdout
    assert "\033" not in result.stdout


def test_settings_that_cannot_be_read_are_named_and_nothing_that_needs_them_is_tried(tmp_path: Path) -> None:
    result = doctor(tmp_path, MODEL_CONFIDENCE_THRESHOLD="1.5")
    assert result.returncode == 1
    assert "FAIL  settings       MODEL_CONFIDENCE_THRESHOLD='1.5'" in result.stdout
    assert len(result.stdout.splitlines()) == 5


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [
        ("API_HOST", "0.0.0.0", "API_HOST=0.0.0.0: whoever reaches"),
        ("API_PORT", "4200", "API_PORT and PREFECT_PORT are both 4200"),
    ],
)
def test_what_keeps_the_service_from_starting_is_named(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(setting, value)
    get_settings.cache_clear()
    found = next(each for each in findings(load_models=False, wait_s=0) if each.subject == "settings")
    assert found.level is Level.FAIL
    assert found.text.startswith(problem)


def test_a_wrong_python_is_a_finding() -> None:
    (found,) = doctor_python.look_at_python((3, 13))
    assert found.level is Level.FAIL
    assert "make up PYTHON=python3.12" in found.text


def test_the_installed_packages_are_those_of_the_pinned_set() -> None:
    (found,) = doctor_python.look_at_packages(PROJECT)
    assert found.level is Level.OK


def test_a_version_that_does_not_work_is_a_failure_with_its_reason(project: Path) -> None:
    replace(project / "pyproject.toml", '"sqlalchemy>=2.0,<2.1"', '"sqlalchemy<2.0"')
    (found,) = doctor_python.look_at_packages(project)
    assert found.level is Level.FAIL
    assert "no schedule ever fires" in found.text
    assert "pip install -c constraints.txt" in found.text


def test_a_version_that_was_not_tried_is_worth_knowing(project: Path) -> None:
    replace(project / "constraints.txt", "\nSQLAlchemy==2.0.", "\nSQLAlchemy==2.0.1")
    (found,) = doctor_python.look_at_packages(project)
    assert found.level is Level.WARN
    assert "tried was 2.0.1" in found.text


def test_a_package_that_is_not_there_is_named(project: Path) -> None:
    replace(project / "pyproject.toml", '"pytz"', '"pytz", "no-such-package-of-audiophile"')
    (found,) = doctor_python.look_at_packages(project)
    assert found.level is Level.FAIL
    assert "no-such-package-of-audiophile is not installed" in found.text


def test_a_look_that_breaks_is_a_finding_and_ends_nothing() -> None:
    def broken():
        raise ImportError("no module\nof that name")

    (found,) = guarded("store", broken)
    assert found.level is Level.FAIL
    assert "ImportError: no module of that name" in found.text


def test_colours_are_for_terminals() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain, coloured = io.StringIO(), Terminal()
    show(fail("disk", "full"), plain)
    show(fail("disk", "full"), coloured)
    assert plain.getvalue() == "FAIL  disk           full\n"
    assert "\033[31mFAIL\033[0m" in coloured.getvalue()


def test_ports_are_free_or_ours_or_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.listen()
        assert look_at_port("API_PORT", "127.0.0.1", port, "Audiophile's API").level is Level.OK
        assert look_at_port("API_PORT", "127.0.0.1", port, None).level is Level.FAIL
    assert look_at_port("API_PORT", "127.0.0.1", port, None).level is Level.OK


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where the folder should be")
    assert look_at_folder(tmp_path, "AUDIOPHILE_DATA").level is Level.OK
    assert look_at_folder(tmp_path / "new" / "one", "AUDIOPHILE_DATA").level is Level.WARN
    for folder in (tmp_path / "file", Path("/proc"), Path("/proc/lake")):  # not even root writes there
        found = look_at_folder(folder, "AUDIOPHILE_DATA")
        assert found.level is Level.FAIL
        assert f"AUDIOPHILE_DATA={folder}: " in found.text
        assert "another folder" in found.text
    assert not (tmp_path / "new").exists()


def test_a_disk_that_gets_full_is_worth_knowing_and_then_a_failure(tmp_path: Path) -> None:
    huge = 1 << 60
    assert look_at_room(tmp_path / "new", little=0, too_little=0).level is Level.OK
    assert look_at_room(tmp_path, little=huge, too_little=0).level is Level.WARN
    assert look_at_room(tmp_path, little=huge, too_little=huge).level is Level.FAIL


def test_a_watched_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, AUDIOPHILE_DATA=str(tmp_path / "data"), FILE_PATH=str(tmp_path / "nowhere"))
    found = [each for each in look_at_host(settings) if each.level is Level.FAIL]
    assert [each.text for each in found if "FILE_PATH" in each.text]


def test_a_lake_that_is_well_has_nothing_but_good_findings(author: Author) -> None:
    fold(author.lake.store, author.index, after=1)
    found = list(doctor_lake.look_at_lake(author.lake.place))
    assert [each.subject for each in found if each.level is Level.OK] == ["store", "log", "clock", "snapshot"]
    assert "1 entries without a gap, the newest (ingest)" in found[1].text


def test_a_store_that_lets_writers_overwrite_each_other_fails(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalStore, "write_if_absent", lambda store, path, content: store.write(path, content) or True)
    (found,) = doctor_lake.look_at_lake(author.lake.place)
    assert (found.subject, found.level) == ("store", Level.FAIL)
    assert "overwrite each other's commits" in found.text


def test_a_gap_in_the_log_is_named(author: Author) -> None:
    author.ingest("b")
    author.ingest("c")
    author.lake.store.remove(entry_path(2))
    *_, found = doctor_lake.look_at_lake(author.lake.place)
    assert (found.subject, found.level) == ("log", Level.FAIL)
    assert "entry 2 is not there, and 3 is the newest" in found.text


def test_a_damaged_head_is_named(author: Author) -> None:
    author.lake.store.write(entry_path(1), b"{")
    *_, found = doctor_lake.look_at_lake(author.lake.place)
    assert (found.subject, found.level) == ("log", Level.FAIL)
    assert "log entry 1 is damaged" in found.text


@pytest.mark.parametrize(("behind_s", "level"), [(0, Level.OK), (20, Level.WARN), (3600, Level.FAIL)])
def test_a_clock_that_is_before_what_was_written_is_named(
    author: Author, monkeypatch: pytest.MonkeyPatch, behind_s: float, level: Level
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) - timedelta(seconds=behind_s)

    monkeypatch.setattr(doctor_clock, "datetime", Clock)
    (found,) = [each for each in doctor_lake.look_at_lake(author.lake.place) if each.subject == "clock"]
    assert found.level is level
    assert ("NTP" in found.text) == (level is not Level.OK)


def test_a_snapshot_that_is_damaged_or_far_behind_is_named(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    fold(author.lake.store, author.index, after=1)
    author.ingest("b")
    author.ingest("c")
    with monkeypatch.context() as patched:
        patched.setattr(doctor_lake, "BEHIND", 1)
        *_, behind = doctor_lake.look_at_lake(author.lake.place)
    assert behind.level is Level.WARN
    assert "2 entries have come since" in behind.text
    path = newest_manifest(author.lake.store).tables["predictions"].path
    author.lake.store.remove(path)
    *_, gone = doctor_lake.look_at_lake(author.lake.place)
    assert gone.level is Level.FAIL
    assert path in gone.text


@pytest.fixture
def spec() -> ModelSpec:
    """The model of our own."""
    return next(spec for spec in load_group(("call",)).enabled if spec.name == "callscene")


def test_models_of_the_group_are_as_pinned(lake: Lake) -> None:
    found = list(doctor_models.look_at_models(get_settings(), load=False))
    assert {each.level for each in found} == {Level.OK}
    assert len(found) == len(load_group(("call",)).enabled)


def test_weights_that_are_others_or_gone_are_named(spec: ModelSpec, tmp_path: Path) -> None:
    others = dataclasses.replace(spec, sha256={**spec.sha256, "classifier.ckpt": "0" * 64})
    gone = dataclasses.replace(spec, source=f"folder:{tmp_path}")
    for wrong, text in ((others, "restore the weights"), (gone, "is not there")):
        found = doctor_models.look_at_model(wrong, tmp_path / "models", None, load=False)
        assert found.level is Level.FAIL
        assert text in found.text


def test_weights_that_are_not_fetched_yet_are_worth_knowing(spec: ModelSpec, tmp_path: Path) -> None:
    remote = dataclasses.replace(spec, source="https://models.example/callscene")
    found = doctor_models.look_at_model(remote, tmp_path, None, load=False)
    assert found.level is Level.WARN
    assert "classifier.ckpt" in found.text
    folder = GROUP_FILE.parent / "callscene"
    for name, digest in spec.sha256.items():
        (tmp_path / digest).write_bytes((folder / name).read_bytes())
    assert doctor_models.look_at_model(remote, tmp_path, None, load=False).level is Level.OK


def test_a_model_that_a_run_could_not_load_is_named_until_its_entry_changes(lake: Lake, spec: ModelSpec) -> None:
    now = datetime.now(UTC)
    write_tried(lake.store, [Tried(spec.name, spec.version, spec.entry, "callscene: no memory", now, now)])
    found = [each for each in doctor_models.look_at_models(get_settings(), load=False) if each.level is Level.FAIL]
    assert [each.text.partition(" (")[0] for each in found] == ["callscene: no memory"]
    write_tried(lake.store, [Tried(spec.name, spec.version, "another", "callscene: no memory", now, now)])
    assert {each.level for each in doctor_models.look_at_models(get_settings(), load=False)} == {Level.OK}


def test_a_model_can_be_loaded_for_a_look(spec: ModelSpec, tmp_path: Path) -> None:
    assert "loaded in" in doctor_models.look_at_model(spec, tmp_path, None, load=True).text
    wrong = dataclasses.replace(spec, settings={**spec.settings, "no_such_setting": 1})
    assert doctor_models.look_at_model(wrong, tmp_path, None, load=True).level is Level.FAIL


def test_a_group_file_that_is_wrong_is_named(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "group.toml").write_text("[[model")
    (found,) = doctor_models.look_at_models(get_settings(), load=False, group_file=tmp_path / "group.toml")
    assert found.level is Level.FAIL
    assert "group.toml" in found.text
