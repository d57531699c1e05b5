"""Settings: defaults, bounds, and messages that name what to change."""

import traceback
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from storage.errors import SettingsError
from storage.keys import find_key, parse_keys
from storage.place import Place, S3Access
from storage.settings import ENV_FILE, Settings, get_settings, read_settings, require_keys, require_writable

ALIASES = {str(field.validation_alias): name for name, field in Settings.model_fields.items()}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting from outside, and no `.env` but a test's own."""
    for alias in ALIASES:
        monkeypatch.delenv(alias, raising=False)
    monkeypatch.chdir(tmp_path)


def made(**values: object) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[call-arg, arg-type]


def test_every_setting_has_a_default_and_a_description() -> None:
    settings = made()
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name
        assert getattr(settings, name) is not None or name in ("file_path", "local_folder")


def test_the_defaults_are_those_that_clients_know(tmp_path: Path) -> None:
    settings = made()
    assert settings.place == Place(str(tmp_path / "data"), tmp_path / "data")
    assert settings.watched_folder == tmp_path / "data" / "incoming"
    assert settings.phrases == ("call", "is", "recorded")
    assert settings.model_confidence_threshold == 0.9
    assert settings.refresh_budget_s == 90
    assert settings.public_url == "http://localhost:8000"
    assert settings.prefect_url == "http://127.0.0.1:4200/api"
    assert settings.workers >= 1


def test_links_follow_the_port_until_a_base_url_is_set() -> None:
    assert made(API_PORT=8100).public_url == "http://localhost:8100"
    assert made(API_PORT=8100, BASE_URL="https://audio.example/calls/").public_url == "https://audio.example/calls"


@pytest.mark.parametrize("url", ["audio.example", "ftp://audio.example", "https://", "https://a b", "https://a?b=c"])
def test_a_base_url_that_no_link_can_start_with_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="BASE_URL"):
        made(BASE_URL=url)


def test_prefects_address_follows_its_port_until_one_is_set() -> None:
    assert made(PREFECT_PORT=4300).prefect_url == "http://127.0.0.1:4300/api"
    assert made(PREFECT_API_URL="http://prefect:4200/api").prefect_url == "http://prefect:4200/api"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("call,is,recorded", ("call", "is", "recorded")),
        (" message this number , call ", ("message this number", "call")),
        ("call,,call, ,is", ("call", "is")),
        ("", ()),
    ],
)
def test_phrases_are_separated_by_commas(written: str, read: tuple[str, ...]) -> None:
    assert made(PHRASES=written).phrases == read


def test_demo_phrases_are_searched_only_while_the_demo_is_on() -> None:
    values = {"PHRASES": "call,ever failed", "DEMO_PHRASES": "ever failed,best of times"}
    assert made(**values, AUDIOPHILE_DEMO="1").searched_phrases == ("call", "ever failed", "best of times")
    assert made(**values, AUDIOPHILE_DEMO="0").searched_phrases == ("call", "ever failed")


@pytest.mark.parametrize(
    ("alias", "value"),
    [
        ("MODEL_CONFIDENCE_THRESHOLD", "1.1"),
        ("MODEL_CONFIDENCE_THRESHOLD", "-0.1"),
        ("MODEL_CONFIDENCE_THRESHOLD", "nan"),
        ("REFRESH_BUDGET_S", "0"),
        ("AUDIOPHILE_WORKERS", "0"),
        ("API_PORT", "0"),
        ("API_PORT", "65536"),
        ("PREFECT_PORT", "http"),
        ("MAX_DURATION_H", "0"),
        ("INGEST_SETTLE_S", "-1"),
        ("AUDIOPHILE_DEMO", "perhaps"),
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_setting(
    monkeypatch: pytest.MonkeyPatch, alias: str, value: str
) -> None:
    monkeypatch.setenv(alias, value)
    with pytest.raises(SettingsError, match=rf"{alias}='{value}': .*\.env"):
        read_settings()


def test_every_wrong_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PORT", "x")
    monkeypatch.setenv("REFRESH_BUDGET_S", "y")
    with pytest.raises(SettingsError, match=r"(?s)(?=.*API_PORT='x')(?=.*REFRESH_BUDGET_S='y')"):
        read_settings()


def test_what_drift_leads_to_is_a_list_of_three_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made().on_drift == ("log", "notify")
    assert made(ON_DRIFT=" quarantine, log,log").on_drift == ("quarantine", "log")
    assert made(ON_DRIFT=()).on_drift == ()
    monkeypatch.setenv("ON_DRIFT", "log,mail")
    with pytest.raises(SettingsError, match=r"ON_DRIFT.*'mail'.*'log', 'quarantine' or 'notify'"):
        read_settings()


def test_the_address_of_notifications_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_URL", "mailto://user:hunter2@example.org")
    settings = read_settings()
    assert settings.notify_url.get_secret_value().endswith("hunter2@example.org")
    assert "hunter2" not in repr(settings)


def test_the_environment_comes_before_the_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_PORT=8100\nPREFECT_PORT=4300\nSOMEBODY_ELSES=1\n")
    monkeypatch.setenv("API_PORT", "8200")
    monkeypatch.delenv(ENV_FILE)
    settings = read_settings()
    assert (settings.api_port, settings.prefect_port) == (8200, 4300)


@pytest.mark.parametrize("alias", sorted(ALIASES.keys() - {"PHRASES", "DEMO_PHRASES"}))
def test_a_setting_that_is_left_empty_has_its_default(monkeypatch: pytest.MonkeyPatch, alias: str) -> None:
    """`NAME=` is how .env files and docker compose say that nothing is set; the current folder is not meant."""
    default = getattr(made(), ALIASES[alias])
    monkeypatch.setenv(alias, "")
    assert getattr(read_settings(), ALIASES[alias]) == default


def test_paths_become_absolute_so_that_no_process_depends_on_its_folder(tmp_path: Path) -> None:
    settings = made(AUDIOPHILE_DATA="lake", FILE_PATH="~/calls")
    assert settings.data == str(settings.local) == str(tmp_path / "lake")
    assert settings.watched_folder == Path.home() / "calls"


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("s3://lake", "s3://lake"),
        ("s3://lake/", "s3://lake"),
        ("s3://my.lake-1/calls/2026_a!/", "s3://my.lake-1/calls/2026_a!"),
    ],
)
def test_a_lake_in_a_bucket_leaves_this_hosts_own_files_on_its_disk(tmp_path: Path, written: str, url: str) -> None:
    settings = made(
        AUDIOPHILE_DATA=written,
        AWS_ENDPOINT_URL="http://minio:9000",
        AWS_REGION="eu-central-1",
        AWS_ACCESS_KEY_ID="key",
        AWS_SECRET_ACCESS_KEY="hunter3",
    )
    access = S3Access("http://minio:9000", "eu-central-1", "key", SecretStr("hunter3"))
    assert settings.place == Place(url, tmp_path / "data", access)
    assert settings.place.is_s3
    assert settings.watched_folder == tmp_path / "data" / "incoming"
    assert "hunter" not in repr(settings.place)


def test_this_hosts_own_folder_is_where_it_is_said_to_be(tmp_path: Path) -> None:
    for data in ("s3://lake", "lake"):
        settings = made(AUDIOPHILE_DATA=data, AUDIOPHILE_LOCAL="own")
        assert settings.local == settings.place.local == tmp_path / "own"
        assert settings.watched_folder == tmp_path / "own" / "incoming"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs://lake", "gs:// is no place for a lake: give a folder's path, or s3://bucket/prefix"),
        ("https://lake.s3.amazonaws.com", "https:// is no place for a lake"),
        ("s3://", "'' is no bucket's name"),
        ("s3:///calls", "'' is no bucket's name"),
        ("s3://la ke", "'la ke' is no bucket's name"),
        ("s3://lake/../other", "'../other' cannot be a prefix"),
        ("s3://lake/a//b", "'a//b' cannot be a prefix"),
        ("s3://lake/a?b", "'a\\?b' cannot be a prefix"),
    ],
)
def test_a_place_that_can_hold_no_lake_is_refused(url: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        made(AUDIOPHILE_DATA=url)


@pytest.mark.parametrize("prefix", ["storages", "storages/lake"])
def test_a_lake_among_the_uploads_is_refused(prefix: str) -> None:
    with pytest.raises(ValidationError, match="use another prefix"):
        made(AUDIOPHILE_DATA=f"s3://bucket/{prefix}", AWS_S3_BUCKET="bucket")
    made(AUDIOPHILE_DATA=f"s3://other/{prefix}", AWS_S3_BUCKET="bucket")
    made(AUDIOPHILE_DATA="s3://bucket/storages-of-mine", AWS_S3_BUCKET="bucket")


def test_what_is_wrong_is_named_without_the_secrets_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOPHILE_DATA", "s3://bucket/storages")
    monkeypatch.setenv("AWS_S3_BUCKET", "bucket")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter3")
    with pytest.raises(SettingsError, match=r"AWS_S3_BUCKET='bucket': .*use another prefix") as caught:
        read_settings()
    assert "hunter" not in str(caught.value)


def test_what_uploads_to_s3_lack_is_named() -> None:
    assert made(AWS_REGION="eu-central-1").missing_for_s3 == [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_S3_BUCKET",
    ]
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-central-1"}
    assert made(**keys, AWS_S3_BUCKET="bucket").missing_for_s3 == []


def test_secrets_are_not_printed() -> None:
    settings = made(DB_PASSWORD="hunter2", AWS_SECRET_ACCESS_KEY="hunter3")
    assert "hunter" not in repr(settings) + str(settings)
    assert settings.db_password.get_secret_value() == "hunter2"


@pytest.mark.parametrize("written", ["hunter2", ":hunter2", "hunter2:"])
def test_what_is_no_user_with_a_password_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", written)
    with pytest.raises(SettingsError, match=r"PREFECT_API_AUTH_STRING=\*+: .*a user, a colon and a password") as caught:
        read_settings()
    assert "hunter2" not in str(caught.value)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        made().api_port = 1  # type: ignore[misc]


def test_a_process_reads_its_settings_once(monkeypatch: pytest.MonkeyPatch) -> None:
    get_settings.cache_clear()
    try:
        first = get_settings()
        monkeypatch.setenv("API_PORT", "8200")
        assert get_settings() is first
    finally:
        get_settings.cache_clear()


def test_a_folder_is_made_and_proven_writable_without_a_trace(tmp_path: Path) -> None:
    require_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(SettingsError, match=r"AUDIOPHILE_DATA=.*taken.*cannot be written.*set AUDIOPHILE_DATA"):
        require_writable(tmp_path / "taken" / "data")


KEY, OTHER_KEY = "k" * 48, "o" * 16


def test_keys_have_their_scopes_and_may_only_read_without() -> None:
    keys = made(AUDIOPHILE_API_KEYS=f"{KEY}, {OTHER_KEY}:upload + delete").keys
    assert [sorted(key.scopes) for key in keys] == [["read"], ["delete", "upload"]]
    assert find_key(keys, OTHER_KEY.encode()) == keys[1]
    assert find_key(keys, b"") is find_key(keys, KEY[:-1].encode()) is None
    assert keys[0].fingerprint != keys[1].fingerprint
    assert made().keys == ()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("hunterhunterhun", "key 1 has 15 characters, and needs 16 to 256"),
        (f"{KEY},hunter:read", "key 2 has 6 characters"),
        (f"{KEY},", "key 2 has 0 characters"),
        ("hunter" * 50, "key 1 has 300 characters"),
        (f"{KEY}:write", "key 1 has a scope that is unknown: after the colon, join read, upload, delete by"),
        (f"{KEY}:", "key 1 has a scope that is unknown"),
        (f"{KEY}:read+", "key 1 has a scope that is unknown"),
        (f"{KEY}:read,{OTHER_KEY},{KEY}:upload", "key 3 is there twice"),
        ("hunter hunter hunter", "key 1 has characters that no header may have"),
        ("hunter\u00e9hunterhunter", "key 1 has characters that no header may have"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, written: str, message: str
) -> None:
    monkeypatch.setenv("AUDIOPHILE_API_KEYS", written)
    with pytest.raises(SettingsError, match=message) as caught:
        read_settings()
    said = "".join(traceback.format_exception(caught.value))
    assert "AUDIOPHILE_API_KEYS=**********" in said
    assert not any(secret in said for secret in (written, "hunter", KEY, OTHER_KEY))


def test_keys_are_not_printed() -> None:
    settings = made(AUDIOPHILE_API_KEYS=KEY)
    assert KEY not in repr(settings) + str(settings) + repr(settings.keys) + settings.model_dump_json()
    assert parse_keys(KEY) == settings.keys


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
def test_the_loopback_needs_no_keys(host: str) -> None:
    require_keys(made(API_HOST=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "audio.example"])
def test_any_other_host_needs_keys_and_says_how_to_make_one(host: str) -> None:
    with pytest.raises(SettingsError, match=rf"API_HOST={host}: .*AUDIOPHILE_API_KEYS.*openssl rand -hex 24"):
        require_keys(made(API_HOST=host))
    require_keys(made(API_HOST=host, AUDIOPHILE_API_KEYS=KEY))


def test_origins_are_a_list_and_all_of_them_need_keys() -> None:
    assert made(API_CORS_ORIGINS=" https://a.example, http://localhost:3000 ").api_cors_origins == (
        "https://a.example",
        "http://localhost:3000",
    )
    with pytest.raises(SettingsError, match=r"API_CORS_ORIGINS=\*: .*no keys"):
        require_keys(made(API_CORS_ORIGINS="*"))
    require_keys(made(API_CORS_ORIGINS="*", AUDIOPHILE_API_KEYS=KEY))


@pytest.mark.parametrize(
    "origin", ["a.example", "https://a.example/", "https://*.a.example", "null", "ftp://a", "https://a b"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="is no origin"):
        made(API_CORS_ORIGINS=origin)
