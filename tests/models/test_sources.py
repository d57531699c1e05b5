"""Sources: only the files that the group names, only if they hash to what it says, and from the network only once."""

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from models import sources
from models.errors import ModelUnavailableError
from models.group import ModelSpec
from models.registry import FAMILIES, Family, load_model, verified_folder
from models.sources import assembled, local_folder, pin, require_pinned

ROOT = Path(__file__).parents[2]
REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = {"hyperparams.yaml": b"a: 1\n", "embedding_model.ckpt": b"weights" * 1000}


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


@pytest.fixture
def remote(spec: ModelSpec) -> Callable[..., ModelSpec]:
    """Makes an entry of files from elsewhere."""

    def make(source: str, files: Mapping[str, bytes] = FILES, revision: str = "") -> ModelSpec:
        return replace(spec, name="ecapa", source=source, sha256=digests(files), revision=revision)

    return make


def refusal(spec: ModelSpec, cache: Path | None) -> str:
    with pytest.raises(ModelUnavailableError) as error:
        assembled(spec, cache)
    assert str(error.value).startswith(f"{spec.name}: ")
    return str(error.value)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fill(folder: Path, files: Mapping[str, bytes] = FILES) -> Path:
    for name, each in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(each)
    return folder


@dataclass
class Web:
    """Serves files, and notes what it was asked for."""

    url: str
    files: dict[str, bytes]
    asked: list[str] = field(default_factory=list)
    pause_s: float = 0.0  # behind each byte


@pytest.fixture
def web() -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            found.asked.append(path)
            body = found.files.get(path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                if not found.pause_s:
                    self.wfile.write(body or b"")
                for byte in (body or b"") if found.pause_s else b"":
                    self.wfile.write(bytes([byte]))
                    time.sleep(found.pause_s)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Web(f"http://127.0.0.1:{server.server_port}", {})
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["file", "memory", "http"])
def test_files_of_any_url_are_had_once_and_then_without_it(
    kind: str, remote: Callable[..., ModelSpec], web: Web, tmp_path: Path
) -> None:
    bases = {"file": f"file://{tmp_path}/there", "memory": "memory://there", "http": f"{web.url}/there"}
    if kind == "http":
        web.files = {f"/there/{name}": each for name, each in FILES.items()}
    else:
        for name, each in FILES.items():
            with fsspec.open(f"{bases[kind]}/{name}", "wb", auto_mkdir=True) as file:
                file.write(each)
    spec, cache = remote(bases[kind]), tmp_path / "cache"
    folder = assembled(spec, cache)
    assert content(folder) == FILES
    assert {path.name for path in cache.iterdir()} == {*digests(FILES).values(), "folders"}
    asked = list(web.asked)
    elsewhere = replace(spec, source="file:///nowhere/at/all")
    assert assembled(elsewhere, cache) == folder, "what is there by its content is not fetched again"
    assert web.asked == asked
    assert set(asked) == ({f"/there/{name}" for name in FILES} if kind == "http" else set())


def test_only_named_files_are_fetched(remote: Callable[..., ModelSpec], tmp_path: Path) -> None:
    there = fill(tmp_path / "there", {**FILES, "custom.py": b"import os"})
    assert content(assembled(remote(f"file://{there}"), tmp_path / "cache")) == FILES


def test_files_in_folders_keep_their_place(remote: Callable[..., ModelSpec], tmp_path: Path) -> None:
    files = {"encoder/weights.ckpt": b"1", "decoder/weights.ckpt": b"2"}
    there = fill(tmp_path / "there", files)
    assert content(assembled(remote(f"file://{there}", files), tmp_path / "cache")) == files


def test_a_folder_of_this_host_is_copied_for_a_family_that_wants_its_files_apart(
    remote: Callable[..., ModelSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "apart", Family("models.moonshine:load", 1, ("hyperparams.yaml",), apart=True))
    there = fill(tmp_path / "there", {**FILES, "custom.py": b"import os"})
    spec = replace(remote(f"folder:{there}"), family="apart")
    assert content(verified_folder(spec, tmp_path / "cache")) == FILES
    with pytest.raises(ModelUnavailableError, match="none was given"):
        verified_folder(spec)


def test_another_file_than_the_named_one_is_refused_and_not_kept(
    remote: Callable[..., ModelSpec], tmp_path: Path
) -> None:
    there = fill(tmp_path / "there", FILES | {"embedding_model.ckpt": b"hostile"})
    spec = remote(f"file://{there}")
    reason = refusal(spec, tmp_path / "cache")
    assert "embedding_model.ckpt" in reason
    assert spec.sha256["embedding_model.ckpt"] in reason
    assert hashlib.sha256(b"hostile").hexdigest() in reason
    kept = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert b"hostile" not in kept


def test_a_damaged_file_of_the_cache_is_fetched_again(remote: Callable[..., ModelSpec], tmp_path: Path) -> None:
    spec = remote(f"file://{fill(tmp_path / 'there')}")
    folder = assembled(spec, tmp_path / "cache")
    kept = tmp_path / "cache" / spec.sha256["embedding_model.ckpt"]
    kept.write_bytes(b"rotten")
    assert content(assembled(spec, tmp_path / "cache")) == content(folder) == FILES


def test_what_is_not_there_is_named_with_a_remedy(remote: Callable[..., ModelSpec], web: Web, tmp_path: Path) -> None:
    for source in (f"{web.url}/gone", "file:///nowhere/at/all", "no-such-protocol://somewhere"):
        reason = refusal(remote(source), tmp_path / "cache")
        assert source in reason
        assert "hyperparams.yaml" in reason
        assert "folder:/absolute/path" in reason


class Endless(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """A protocol without time limits, whose files give a byte at a time, or none at all."""

    protocol = "endless"
    cachable = False
    ended = threading.Event()

    def _open(self, path: str, *_: object, **__: object) -> io.RawIOBase:
        ended = self.ended

        class File(io.RawIOBase):
            def read(self, size: int = -1, /) -> bytes:
                ended.wait(60 if "silent" in path else 0.01)
                return b"x"

        return File()


@pytest.fixture
def endless() -> Iterator[None]:
    fsspec.register_implementation("endless", Endless, clobber=True)
    Endless.ended.clear()
    yield
    Endless.ended.set()


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("source", ["endless://silent", "endless://slow", "http"])
def test_what_does_not_arrive_in_time_is_given_up(
    remote: Callable[..., ModelSpec], web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setattr(sources, "FETCH_S", 0.5)
    web.files = {f"/slow/{name}": b"x" * 1000 for name in FILES}
    web.pause_s = 0.05
    started = time.monotonic()
    reason = refusal(remote(f"{web.url}/slow" if source == "http" else source), tmp_path / "cache")
    assert "TimeoutError" in reason
    assert "to arrive" in reason
    assert time.monotonic() - started < 5
    assert not list((tmp_path / "cache").glob(".*")), "no rest of it is left"


def test_a_file_that_is_too_large_is_given_up(
    remote: Callable[..., ModelSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_BYTES", 7000)
    assert "too large" in refusal(remote(f"file://{fill(tmp_path / 'there')}"), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob(".*")), "no rest of it is left"


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", "a\\b", "", ".", ".hidden", "a//b", "a/", "C:x", "a\nb", "a\x00b"]
)
def test_a_name_that_leads_elsewhere_is_refused(remote: Callable[..., ModelSpec], tmp_path: Path, name: str) -> None:
    spec = replace(remote(f"file://{tmp_path}"), sha256={name: "0" * 64})
    with pytest.raises(ModelUnavailableError, match="no plain relative name"):
        require_pinned(spec)
    with pytest.raises(ModelUnavailableError):
        load_model(spec, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "source",
    [
        "simplecache::https://host/folder",
        "zip://inside::file:///somewhere.zip",
        "HTTP://host/folder",
        "https://host/folder?signature=1",
        "https://host/folder#part",
        "https://",
    ],
)
def test_a_url_of_no_folder_is_refused(remote: Callable[..., ModelSpec], tmp_path: Path, source: str) -> None:
    with pytest.raises(ModelUnavailableError) as error:
        load_model(remote(source), tmp_path / "cache")
    assert repr(source) in str(error.value)
    assert "without a query and not chained" in str(error.value)
    assert not (tmp_path / "cache").exists()
    with pytest.raises(ValueError, match="no URL of a folder"):
        pin(source)


@pytest.mark.parametrize("inside", ["/etc", "../tests", "callscene/../..", ".", "callscene//x", "/", "a\\b"])
def test_a_packages_folder_is_in_the_package(remote: Callable[..., ModelSpec], inside: str) -> None:
    with pytest.raises(ModelUnavailableError, match="no plain relative name"):
        local_folder(remote(f"package:models/{inside}"))


def test_a_package_may_be_named_with_or_without_a_folder(remote: Callable[..., ModelSpec]) -> None:
    assert local_folder(remote("package:models")) == local_folder(remote("package:models/")) == ROOT / "models"
    assert local_folder(remote("package:models/callscene/")) == ROOT / "models" / "callscene"


@pytest.mark.parametrize("digest", ["", "../../x", "0" * 63, "G" * 64, 7])
def test_what_is_no_digest_becomes_no_path(remote: Callable[..., ModelSpec], digest: str) -> None:
    with pytest.raises(ModelUnavailableError, match=r"weights\.bin"):
        require_pinned(replace(remote("memory://x"), sha256={"weights.bin": digest}))


@pytest.mark.parametrize("revision", ["", "main", "v1.0", REVISION[:-1], REVISION.upper()])
def test_a_hub_without_a_pinned_revision_is_refused_with_what_to_run(
    remote: Callable[..., ModelSpec], tmp_path: Path, revision: str
) -> None:
    with pytest.raises(ModelUnavailableError) as error:
        load_model(remote("hf://org/name", revision=revision), tmp_path)
    assert repr(revision) in str(error.value)
    assert "python -m models.sources pin hf://org/name" in str(error.value)


def test_a_source_without_digests_is_refused_with_what_to_run(remote: Callable[..., ModelSpec]) -> None:
    spec = replace(remote("hf://org/name", revision=REVISION), sha256={})
    with pytest.raises(ModelUnavailableError, match=r"python -m models\.sources pin hf://org/name"):
        load_model(spec)


@pytest.mark.parametrize("source", ["hf://org", "hf://org/name/more", "hf://../name", "hf://org/na me"])
def test_what_is_no_hub_repository_is_refused_by_its_value(remote: Callable[..., ModelSpec], source: str) -> None:
    with pytest.raises(ModelUnavailableError, match="organisation/name"):
        load_model(remote(source, revision=REVISION))


def test_a_cache_that_cannot_be_written_is_named(remote: Callable[..., ModelSpec], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert str(tmp_path / "cache") in refusal(remote(f"file://{fill(tmp_path / 'there')}"), tmp_path / "cache")


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"no_proxy": "127.0.0.1"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


FETCH = """
import sys
from dataclasses import replace
from pathlib import Path
from models.group import load_group
from models.sources import assembled
import tomllib
entry = tomllib.loads(sys.argv[1])
spec = replace(load_group(()).models[0], source="hf://org/name", revision=entry["revision"], sha256=entry["sha256"])
print(assembled(spec, Path(sys.argv[2])))
"""


def test_what_pin_prints_of_a_hub_is_what_is_fetched_from_it(web: Web, tmp_path: Path) -> None:
    lfs = {"sha256": digests(FILES)["embedding_model.ckpt"], "size": 7000, "pointerSize": 100}
    siblings = [
        {"rfilename": "hyperparams.yaml", "size": 5, "blobId": "1"},
        {"rfilename": "embedding_model.ckpt", "size": 7000, "blobId": "2", "lfs": lfs},
        {"rfilename": "README.md", "size": 5, "blobId": "3"},
        {"rfilename": ".gitattributes", "size": 5, "blobId": "4"},
    ]
    web.files = {f"/org/name/resolve/{REVISION}/{name}": each for name, each in FILES.items()}
    web.files["/api/models/org/name"] = json.dumps({"id": "org/name", "sha": REVISION, "siblings": siblings}).encode()
    pinned = run("-m", "models.sources", "pin", "hf://org/name", HF_ENDPOINT=web.url)
    assert pinned.returncode == 0, pinned.stderr
    lines = pinned.stdout.replace("[model.sha256]", "[sha256]")
    assert tomllib.loads(lines) == {"revision": REVISION, "sha256": digests(FILES)}
    fetched = run("-c", FETCH, lines, str(tmp_path / "cache"), HF_ENDPOINT=web.url)
    assert fetched.returncode == 0, fetched.stderr
    assert content(Path(fetched.stdout.strip())) == FILES
    web.files.clear()
    again = run("-c", FETCH, lines, str(tmp_path / "cache"), HF_ENDPOINT=web.url, HF_HUB_OFFLINE="1")
    assert again.stdout == fetched.stdout
    offline = run("-c", FETCH, lines, str(tmp_path / "empty"), HF_ENDPOINT=web.url, HF_HUB_OFFLINE="1")
    assert "ModelUnavailableError" in offline.stderr
    assert "HF_HUB_OFFLINE is set" in offline.stderr


@pytest.mark.parametrize("scheme", ["folder:", "file://"])
def test_pin_names_the_files_that_look_like_weights(tmp_path: Path, scheme: str) -> None:
    fill(tmp_path, {**FILES, "readme.md": b"x", "custom.py": b"x"})
    printed = tomllib.loads(pin(f"{scheme}{tmp_path}"))
    assert printed == {"model": {"sha256": digests(FILES)}}
    printed = tomllib.loads(pin(f"{scheme}{tmp_path}", ["readme.md"]))
    assert printed == {"model": {"sha256": digests({"readme.md": b"x"})}}


def test_pin_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.ckpt"):
        pin(f"folder:{tmp_path}")
    with pytest.raises(FileNotFoundError):
        pin(f"folder:{tmp_path}", ["gone.ckpt"])
    done = run("-m", "models.sources", "pin", f"folder:{tmp_path}")
    assert done.returncode == 1
    assert "cannot be pinned" in done.stderr


def test_two_processes_may_fetch_the_same_at_once(remote: Callable[..., ModelSpec], tmp_path: Path) -> None:
    spec = remote(f"file://{fill(tmp_path / 'there')}")
    found: list[Path] = []
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            thread = threading.Thread(target=lambda: found.append(assembled(spec, tmp_path / "cache")))
            thread.start()
            stack.callback(thread.join)
    assert len(found) == 4
    assert len(set(found)) == 1
    assert content(found[0]) == FILES
