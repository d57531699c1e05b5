"""The cache of models' files keeps what an entry of the group names, and in time nothing else."""

import os
import time
from dataclasses import replace
from pathlib import Path

from models.group import ModelSpec
from models.leftovers import GRACE_S, clear
from models.sources import assembled, folder_of, sha256_of


def fetched(spec: ModelSpec, folder: Path, cache: Path, content: str) -> ModelSpec:
    """Return an entry of one file, which is in the cache."""
    folder.mkdir()
    path = folder / "weights.ckpt"
    path.write_text(content)
    found = replace(spec, source=f"file://{folder}", sha256={path.name: sha256_of(path)})
    assembled(found, cache)
    return found


def age(cache: Path) -> None:
    """Make all in it older than the grace."""
    for path in cache.rglob("*"):
        os.utime(path, (0, time.time() - GRACE_S - 60))


def test_only_what_no_entry_names_is_removed(spec: ModelSpec, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    kept = fetched(spec, tmp_path / "kept", cache, "kept")
    gone = fetched(spec, tmp_path / "gone", cache, "gone")
    (cache / "folders" / ".speechbrain-killed").mkdir()
    (cache / "folders" / ".speechbrain-killed" / "hyperparams.yaml").write_text("a: 1")
    (cache / ".killed.tmp").write_text("half")
    assert clear(cache, [kept]) == 0, "what is young may be of a model that is being fetched"
    age(cache)
    assert clear(cache, [kept]) == 4
    assert {path.name for path in cache.iterdir()} == {"folders", *kept.sha256.values()}
    assert list((cache / "folders").iterdir()) == [folder_of(kept, cache)]
    assert (folder_of(kept, cache) / "weights.ckpt").read_text() == "kept"
    assert not folder_of(gone, cache).exists()
    assert clear(cache, [kept]) == 0


def test_a_disabled_models_files_are_kept(spec: ModelSpec, tmp_path: Path) -> None:
    disabled = replace(fetched(spec, tmp_path / "there", tmp_path / "cache", "weights"), enabled=False)
    age(tmp_path / "cache")
    assert clear(tmp_path / "cache", [disabled]) == 0


def test_what_others_keep_there_is_none_of_its_concern(tmp_path: Path) -> None:
    (tmp_path / "cache" / "loaded").mkdir(parents=True)
    (tmp_path / "cache" / "loaded" / "mark").touch()
    age(tmp_path / "cache")
    assert clear(tmp_path / "cache", []) == 0


def test_a_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("precious")
    (tmp_path / "cache").mkdir()
    link = tmp_path / "cache" / ("0" * 64)
    link.symlink_to(tmp_path / "precious")
    os.utime(link, (0, 0), follow_symlinks=False)
    assert clear(tmp_path / "cache", []) == 1
    assert (tmp_path / "precious" / "file").read_text() == "precious"


def test_a_cache_that_is_not_there_is_clear(tmp_path: Path) -> None:
    assert clear(tmp_path / "cache", []) == 0
