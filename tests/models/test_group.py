"""The group file: what changes a model's version, what does not, and how a wrong file is refused."""

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.utterances import UtteranceSettings
from models.errors import GroupError
from models.group import GROUP_FILE, ModelSpec, load_group, version_of
from models.phrases import MAX_CHARACTERS

Write = Callable[[Mapping[str, Any]], Path]
Draft = dict[str, Any]

ROOT = Path(__file__).parents[2]
FIELDS = ("name", "family", "task", "enabled", "source")
TABLES = ("utterances", "sha256", "settings", "search")

numbers = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)  # -0.0 == 0.0
names = st.text(min_size=1, max_size=8)
tables = st.dictionaries(names, numbers, max_size=4)


def table_of(draft: Draft, name: str) -> Draft:
    found: Draft = draft[name] if name == "utterances" else draft["model"][0][name]
    return found


def only(path: Path, phrases: tuple[str, ...] = ("yes",)) -> ModelSpec:
    (model,) = load_group(phrases, path).models
    return model


def refusal(path: Path) -> str:
    with pytest.raises(GroupError) as error:
        load_group((), path)
    return str(error.value)


def test_the_projects_own_group_can_be_read() -> None:
    group = load_group(("yes", "no"))
    assert group.enabled
    assert len({model.version for model in group.models}) == len(group.models)
    assert all(len(model.version) == 12 and int(model.version, 16) >= 0 for model in group.models)
    assert all(len(digest) == 64 for model in group.models for digest in model.sha256.values())


def test_the_projects_own_utterance_settings_are_all_there_are() -> None:
    utterances = load_group(()).utterances
    assert utterances.keys() == asdict(UtteranceSettings(**utterances)).keys()


def test_a_disabled_model_is_read_but_not_enabled(draft: Draft, write: Write) -> None:
    other = draft["model"][0] | {"name": "another", "enabled": False}
    group = load_group((), write(draft | {"model": [draft["model"][0], other]}))
    assert [model.name for model in group.models] == [draft["model"][0]["name"], "another"]
    assert [model.name for model in group.enabled] == [draft["model"][0]["name"]]


def another(value: Any) -> Any:
    """Return another value of the same type; of a table, one whose last value is another."""
    if isinstance(value, dict):
        return value | {key: another(each) for key, each in list(value.items())[-1:]}
    return "0" * 64 if isinstance(value, str) else value + 0.125


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_and_every_digest_changes_the_version(draft: Draft, write: Write, table: str) -> None:
    versions = {only(write(draft)).version}
    keys = list(table_of(draft, table))
    for key in keys:
        before = table_of(draft, table)[key]
        table_of(draft, table)[key] = another(before)
        versions.add(only(write(draft)).version)
        table_of(draft, table)[key] = before
    assert len(versions) == 1 + len(keys)


@pytest.mark.parametrize("table", TABLES)
def test_a_setting_or_a_digest_more_or_less_changes_the_version(draft: Draft, write: Write, table: str) -> None:
    versions = [only(write(draft)).version]
    key, value = table_of(draft, table).popitem()
    versions.append(only(write(draft)).version)
    table_of(draft, table)[key] = value
    assert only(write(draft)).version == versions[0] != versions[1]


def test_a_phrase_more_or_another_one_changes_the_version_of_models_that_look_for_phrases(write: Write) -> None:
    searched = [(), ("yes",), ("no",), ("yes", "no"), ("yes no",), ("yes, no",)]
    versions = [[model.version for model in load_group(phrases).models] for phrases in searched]
    assert len({tuple(version) for version in versions}) == len(searched)


def test_phrases_do_not_touch_models_of_another_task(draft: Draft, write: Write) -> None:
    draft["model"][0]["task"] = "labels"
    path = write(draft)
    assert only(path, ("yes",)) == only(path, ("no",))
    assert "phrases" not in only(path).search


@pytest.mark.parametrize("table", TABLES)
def test_only_what_is_looked_for_leaves_the_version_of_the_texts(draft: Draft, write: Write, table: str) -> None:
    before = only(write(draft), ("yes",))
    assert only(write(draft), ("yes", "no")).text_version == before.text_version != before.version
    table_of(draft, table).popitem()
    after = only(write(draft), ("yes",))
    assert after.version != before.version
    assert (after.text_version == before.text_version) == (table == "search")


def test_the_family_changes_the_version(draft: Draft, write: Write) -> None:
    before = only(write(draft)).version
    draft["model"][0]["family"] = "whisper"
    assert only(write(draft)).version != before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "my-own_name.2"),
        ("enabled", False),
        ("source", "package:elsewhere/weights"),
        ("revision", "0" * 40),
        ("trusted", True),
    ],
)
def test_name_switch_and_place_leave_the_version(draft: Draft, write: Write, field: str, value: str | bool) -> None:
    before = only(write(draft)).version
    draft["model"][0][field] = value
    assert only(write(draft)).version == before


@pytest.mark.parametrize("table", TABLES)
def test_the_order_of_the_lines_leaves_the_version(draft: Draft, write: Write, table: str) -> None:
    before = only(write(draft)).version
    lines = list(table_of(draft, table).items())[::-1]
    table_of(draft, table).clear()
    table_of(draft, table).update(lines)
    assert only(write(draft)).version == before


def test_comments_and_a_model_beside_it_leave_the_version(draft: Draft, write: Write) -> None:
    before, path = only(write(draft)).version, write(draft)
    path.write_text("# a remark\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert only(path).version == before
    draft["model"].append(draft["model"][0] | {"name": "another", "settings": {}})
    assert load_group(("yes",), write(draft)).models[0].version == before


def test_a_whole_number_is_the_same_setting_with_and_without_a_point(draft: Draft, write: Write) -> None:
    versions = set()
    for max_s in (30, 30.0):
        draft["utterances"]["max_s"] = max_s
        versions.add(only(write(draft)).version)
    assert len(versions) == 1


@given(one=st.tuples(names, tables, tables, tables, tables), other=st.tuples(names, tables, tables, tables, tables))
def test_two_versions_are_equal_just_when_all_that_they_hash_is(one: Any, other: Any) -> None:
    assert (version_of(*one) == version_of(*other)) == (one == other)


@given(family=names, sha256=tables, settings=tables, utterances=tables)
def test_one_changed_number_changes_the_version(family: str, sha256: Any, settings: Any, utterances: Any) -> None:
    before = version_of(family, sha256, settings, utterances)
    for table in (sha256, settings, utterances):
        table["a new setting"] = 0.5
        assert version_of(family, sha256, settings, utterances) != before
        table.pop("a new setting")
    assert version_of(family, sha256, settings, utterances) == before


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [3, ["moonshine"], None])
def test_a_field_that_is_missing_or_of_another_kind_is_refused_by_its_name(
    draft: Draft, write: Write, field: str, value: object
) -> None:
    entry = draft["model"][0]
    if value is None:
        entry.pop(field)
    else:
        entry[field] = value
    reason = refusal(write(draft))
    assert f"`{field}`" in reason
    assert repr(value) in reason
    assert field == "name" or entry["name"] in reason


@pytest.mark.parametrize(("field", "value"), [("trusted", "yes"), ("trusted", 1), ("revision", 7)])
def test_trust_and_revision_are_refused_where_they_are_of_another_kind(
    draft: Draft, write: Write, field: str, value: object
) -> None:
    draft["model"][0][field] = value
    reason = refusal(write(draft))
    assert f"`{field}`" in reason
    assert repr(value) in reason


def test_nothing_is_trusted_unless_it_is_listed_so(draft: Draft, write: Write) -> None:
    assert (only(write(draft)).trusted, only(write(draft)).revision) == (False, "")
    draft["model"][0]["trusted"] = True
    assert only(write(draft)).trusted


def test_two_models_of_one_name_are_refused(draft: Draft, write: Write) -> None:
    path = write(draft | {"model": draft["model"] * 2})
    reason = refusal(path)
    assert draft["model"][0]["name"] in reason
    assert "rename one" in reason
    assert str(path) in reason


def test_a_group_file_that_is_not_there_is_refused_by_its_path(tmp_path: Path) -> None:
    assert str(tmp_path / "gone.toml") in refusal(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    "content", [b"[[model]\nname = 1", b"name = 'x", b"a = 1\na = 2", "# größer".encode("latin-1")], ids=str
)
def test_what_is_not_toml_is_refused_by_its_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "group.toml").write_bytes(content)
    assert str(tmp_path / "group.toml") in refusal(tmp_path / "group.toml")


@pytest.mark.parametrize("content", ["model = 3", "model = ['moonshine']", "[model]\nname = 'moonshine'"])
def test_models_that_are_not_a_list_of_tables_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "group.toml").write_text(content, encoding="utf-8")
    assert "model" in refusal(tmp_path / "group.toml").removeprefix(str(tmp_path))


@pytest.mark.parametrize("table", ["settings", "search", "sha256"])
@pytest.mark.parametrize("value", [3, "94e9"])
def test_settings_and_digests_that_are_not_tables_are_refused_by_model_and_field(
    draft: Draft, write: Write, table: str, value: object
) -> None:
    draft["model"][0][table] = value
    reason = refusal(write(draft))
    assert draft["model"][0]["name"] in reason
    assert f"`{table}`" in reason


def test_a_setting_that_no_version_can_be_made_of_is_refused_by_model_and_field(draft: Draft, tmp_path: Path) -> None:
    text = GROUP_FILE.read_text(encoding="utf-8")
    (tmp_path / "group.toml").write_text(text.replace("peak = 0.9", "peak = 1979-05-27"), encoding="utf-8")
    reason = refusal(tmp_path / "group.toml")
    assert draft["model"][0]["name"] in reason
    assert "peak" in reason


@pytest.mark.parametrize(
    "value", ["[1, [1979-05-27]]", "{a = {b = 1979-05-27}}", "nan", "-inf", "1" * 400, f"0x{'f' * 5000}", "[nan]"]
)
@pytest.mark.parametrize("table", ["settings", "search"])
def test_a_value_that_no_version_can_be_made_of_is_refused_wherever_it_is(
    draft: Draft, write: Write, table: str, value: str
) -> None:
    path = write(draft | {"model": [draft["model"][0] | {table: {"surprise": "HERE"}}]})
    path.write_text(path.read_text().replace('"HERE"', value))
    assert "`surprise" in refusal(path)


def test_lists_that_are_nested_too_deep_are_refused(tmp_path: Path) -> None:
    (tmp_path / "group.toml").write_text(f"a = {'[' * 5000}{']' * 5000}", encoding="utf-8")
    assert "nested" in refusal(tmp_path / "group.toml")


@pytest.mark.parametrize("digest", ["1979-05-27", "94", '"94e9"', f'"{"g" * 64}"', f'"{"A" * 64}"', "0x" + "f" * 5000])
def test_what_is_no_sha256_is_refused_by_model_and_file(draft: Draft, write: Write, digest: str) -> None:
    path = write(draft | {"model": [draft["model"][0] | {"sha256": {"model.bin": "HERE"}}]})
    path.write_text(path.read_text().replace('"HERE"', digest))
    reason = refusal(path)
    assert draft["model"][0]["name"] in reason
    assert "model.bin" in reason
    assert "64 hexadecimal digits" in reason


@pytest.mark.parametrize("name", ["", " ", "a/b", "..\\b", "a b", "größer", "a\n"])
def test_a_name_that_is_not_plain_is_refused(draft: Draft, write: Write, name: str) -> None:
    draft["model"][0]["name"] = name
    reason = refusal(write(draft))
    assert repr(name) in reason
    assert "rename it" in reason


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", 7),
        ("threshold", 0),
        ("threshold", True),
        ("max_s", float("nan")),
        ("max_s", 0),
        ("max_s", -1),
        ("max_s", 10**400),
        ("min_silence_s", float("inf")),
        ("min_speech_s", -0.1),
        ("pad_s", -5),
    ],
)
def test_an_utterance_setting_out_of_its_bounds_is_refused_with_its_name_and_value(
    draft: Draft, write: Write, field: str, value: float
) -> None:
    draft["utterances"][field] = "HERE"
    path = write(draft)
    path.write_text(path.read_text().replace('"HERE"', "true" if value is True else str(value)))
    reason = refusal(path)
    assert f"`{field}`" in reason
    assert repr(value)[:20] in reason


def test_the_bounds_are_those_of_all_utterance_settings_and_hold_their_defaults(draft: Draft, write: Write) -> None:
    defaults = asdict(UtteranceSettings())
    assert load_group((), write(draft | {"utterances": defaults})).utterances == defaults


def test_a_phrase_that_is_too_long_is_refused(draft: Draft, write: Write) -> None:
    path = write(draft)
    assert only(path, ("y" * MAX_CHARACTERS,)).search["phrases"] == ["y" * MAX_CHARACTERS]
    with pytest.raises(GroupError, match=f"'yyy.*more than {MAX_CHARACTERS} characters: shorten it"):
        load_group(("y" * (MAX_CHARACTERS + 1),), path)


@pytest.mark.parametrize("utterances", [3, {"threshold": "high"}, {"treshold": 0.5}])
def test_utterance_settings_that_cannot_be_used_are_refused(draft: Draft, write: Write, utterances: object) -> None:
    assert "utterances" in refusal(write(draft | {"utterances": utterances}))


def test_reading_the_group_imports_neither_torch_nor_onnxruntime() -> None:
    code = (
        "import sys, models.group; models.group.load_group(('yes',)); "
        "print(sorted({'torch', 'onnxruntime', 'moonshine_voice'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("family", "given"), [("moonshine", True), ("callscene", False), ("speechbrain-vad", False)])
def test_how_speech_is_cut_and_described_is_part_of_the_version_of_those_that_are_given_it(
    family: str, given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def versions(pad_s: float) -> tuple[str, str]:
        cut = {"pad_s": pad_s}
        return version_of(family, {}, {}, cut, {}), version_of(family, {}, {}, cut)

    before = versions(0.2)
    assert [one != other for one, other in zip(before, versions(0.1), strict=True)] == [given, given]
    monkeypatch.setattr("models.group.DESCRIPTORS_REVISION", 1_000)
    assert [one != other for one, other in zip(before, versions(0.2), strict=True)] == [given, False]


HUB = [model for model in load_group(()).models if model.source.startswith("hf://")]
PINNED = f'revision = "{"5" * 40}"\n\n[model.sha256]\n"hyperparams.yaml" = "{"6" * 64}"\n'


@pytest.mark.parametrize("name", [model.name for model in HUB])
def test_an_entry_of_the_hub_is_switched_on_by_one_word_and_what_pin_prints(name: str, tmp_path: Path) -> None:
    head, entry = GROUP_FILE.read_text(encoding="utf-8").split(f'[[model]]\nname = "{name}"', 1)
    source = re.search(r'^source = "hf://.*"\n', entry, re.MULTILINE)
    assert source is not None
    entry = entry.replace(source[0], source[0] + PINNED, 1).replace("enabled = false", "enabled = true", 1)
    path = tmp_path / "group.toml"
    path.write_text(f'{head}[[model]]\nname = "{name}"{entry}', encoding="utf-8")
    spec = next(model for model in load_group((), path).enabled if model.name == name)
    assert (spec.revision, dict(spec.sha256)) == ("5" * 40, {"hyperparams.yaml": "6" * 64})
    assert {**spec.settings, **spec.search} == {**_of(name).settings, **_of(name).search}


def _of(name: str) -> ModelSpec:
    return next(model for model in HUB if model.name == name)
