"""The one settings object, read from the environment or `.env`; it must not be read at import."""

import ipaddress
import os
import re
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from storage.errors import SettingsError
from storage.keys import HOW, ApiKey, parse_keys
from storage.place import BUCKET_NAME, S3_SCHEME, STORAGES, Place, S3Access, normalised, split_url

ENV_FILE: Final = "AUDIOPHILE_ENV_FILE"

ORIGIN: Final = re.compile(r"https?://[^\s/?#@*]+")
PROCESSES: Final = "processes"
_RAY: Final = re.compile(r"ray://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")

Phrases = Annotated[tuple[str, ...], NoDecode]
OnDrift = Annotated[tuple[Literal["log", "quarantine", "notify"], ...], NoDecode]


class Settings(BaseSettings):
    """What a user can set. The README's table is checked against these fields by a test."""

    model_config = SettingsConfigDict(
        env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    data: str = Field(
        "data",
        validation_alias="AUDIOPHILE_DATA",
        description="Where recordings and tables are stored: a folder, or `s3://bucket/prefix`.",
    )
    local_folder: Path | None = Field(
        None,
        validation_alias="AUDIOPHILE_LOCAL",
        description="Folder of this host's own: Prefect's database, the watched folder, index files, downloads. "
        "Default: `AUDIOPHILE_DATA` where that is a folder, else `data`.",
    )
    file_path: Path | None = Field(
        None, validation_alias="FILE_PATH", description="Watched folder. Default: `<AUDIOPHILE_LOCAL>/incoming`."
    )
    watch: bool = Field(
        True,
        validation_alias="AUDIOPHILE_WATCH",
        description="Watch that default folder. `python -m flows.up worker` does not, unless this is 1: of several "
        "hosts each would have one of its own.",
    )
    phrases: Phrases = Field(
        ("call", "is", "recorded"),
        validation_alias="PHRASES",
        description="Words and phrases to find, separated by commas.",
    )
    model_confidence_threshold: float = Field(
        0.9,
        ge=0,
        le=1,
        validation_alias="MODEL_CONFIDENCE_THRESHOLD",
        description="Detections below it are stored, and shown only when `min_confidence` asks.",
    )
    refresh_budget_s: float = Field(
        90,
        ge=1,
        le=86_400,
        validation_alias="REFRESH_BUDGET_S",
        description="Seconds after which a refresh starts no new work, publishes, and leaves the rest to the next one.",
    )
    workers: int = Field(
        default_factory=lambda: (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        ),
        ge=1,
        le=256,
        validation_alias="AUDIOPHILE_WORKERS",
        description="Processes that score at the same time. Default: one per core.",
    )
    runner: str = Field(
        PROCESSES,
        validation_alias="AUDIOPHILE_RUNNER",
        description="Where shards are scored: in `processes` of this host, or on a Ray cluster, `ray://host:port`, one "
        "on each of its CPUs; clusters of other hosts need `AUDIOPHILE_DATA` in a bucket.",
    )
    settle_s: float = Field(
        3,
        ge=0,
        le=3600,
        validation_alias="INGEST_SETTLE_S",
        description="Seconds for which size and time of a file in the watched folder must stand still.",
    )
    max_duration_h: float = Field(
        24,
        gt=0,
        le=1000,
        validation_alias="MAX_DURATION_H",
        description="Longer recordings are rejected (hours).",
    )
    max_upload_mb: int = Field(
        2048,
        ge=1,
        le=1_048_576,
        validation_alias="MAX_UPLOAD_MB",
        description="Larger uploads are refused (MiB). Room for those under way is needed beside the store, "
        "or in `AUDIOPHILE_LOCAL`.",
    )
    keep_references: int = Field(
        0,
        ge=0,
        validation_alias="KEEP_REFERENCES",
        description="How many references of each file maintenance keeps; 0 keeps all. The latest is always kept.",
    )
    keep_days: float = Field(
        0,
        ge=0,
        le=36_500,
        validation_alias="KEEP_DAYS",
        description="Maintenance keeps younger references; 0 keeps all. With `KEEP_REFERENCES`, what either keeps.",
    )
    grace_h: float = Field(
        24,
        ge=6,
        le=8760,
        validation_alias="GRACE_H",
        description="Hours after which maintenance removes what does not count any more, and what nobody named.",
    )
    drift_baseline_min: int = Field(
        300,
        ge=100,
        le=100_000,
        validation_alias="DRIFT_BASELINE_MIN",
        description="Utterances that a baseline of drift is made of; where erasures leave less than half, verdicts are "
        "`insufficient`.",
    )
    drift_window_utterances: int = Field(
        100,
        ge=20,
        le=100_000,
        validation_alias="DRIFT_WINDOW_UTTERANCES",
        description="New utterances after which a window closes and is tested for drift, once.",
    )
    drift_window_h: float = Field(
        24,
        gt=0,
        le=8760,
        validation_alias="DRIFT_WINDOW_H",
        description="Hours after which a window closes with what it has.",
    )
    drift_false_alarms_per_month: float = Field(
        1,
        gt=0,
        le=1000,
        validation_alias="DRIFT_FALSE_ALARMS_PER_MONTH",
        description="False alarms a month that are allowed where nothing drifts, over all tests and windows together.",
    )
    drift_windows_per_month: float = Field(
        720,
        ge=1,
        le=1_000_000,
        validation_alias="DRIFT_WINDOWS_PER_MONTH",
        description="Windows a month that thresholds are made for; where the last month had more, for those.",
    )
    on_drift: OnDrift = Field(
        ("log", "notify"),
        validation_alias="ON_DRIFT",
        description="What drift leads to beside its rows: any of `log`, `quarantine` (refreshes wait until their "
        "window is tested) and `notify` (an event of Prefect, and a message to `NOTIFY_URL`), separated by commas.",
    )
    notify_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="NOTIFY_URL",
        description="Where Prefect's server sends a message when drift starts and when it ends: an address as Apprise "
        "writes it, `mailto://…`, `slack://…`, `json://host:port/path`.",
    )
    demo: bool = Field(
        True,
        validation_alias="AUDIOPHILE_DEMO",
        description="Put demo recordings into an empty store, and look for `DEMO_PHRASES` as well.",
    )
    demo_phrases: Phrases = Field(
        ("best of times", "age of wisdom", "winter of despair", "ever failed", "laugh less heartily", "fetched you"),
        validation_alias="DEMO_PHRASES",
        description="Phrases that are spoken in the demo recordings.",
    )
    base_url: str = Field(
        "",
        validation_alias="BASE_URL",
        pattern=r"^(https?://[^\s/?#]+(/[^\s?#]*)?)?$",
        description="Start of every link in answers. Default: `http://localhost:<API_PORT>`.",
    )
    api_host: str = Field("127.0.0.1", validation_alias="API_HOST", description="Address that the API listens on.")
    api_port: int = Field(8000, ge=1, le=65_535, validation_alias="API_PORT", description="Port of the API.")
    api_keys: SecretStr = Field(
        SecretStr(""),
        validation_alias="AUDIOPHILE_API_KEYS",
        description="Keys of the API, separated by commas, each with its scopes: `key:read+upload+delete`. One without "
        "scopes may only read. Without keys the API listens on the loopback only.",
    )
    api_cors_origins: Phrases = Field(
        (),
        validation_alias="API_CORS_ORIGINS",
        description="Origins whose web pages may use the API, separated by commas: `https://app.example.org`. "
        "`*` (all of them) needs keys.",
    )
    api_access_log: bool = Field(
        True, validation_alias="API_ACCESS_LOG", description="Write a line of JSON to stdout for each request."
    )
    api_max_requests: int = Field(
        1000,
        ge=1,
        le=100_000,
        validation_alias="API_MAX_REQUESTS",
        description="Requests that one process answers at the same time; others get 503 at once.",
    )
    prefect_port: int = Field(
        4200, ge=1, le=65_535, validation_alias="PREFECT_PORT", description="Port of Prefect's server and UI."
    )
    prefect_api_url: str = Field(
        "",
        validation_alias="PREFECT_API_URL",
        description="Prefect server that the flows and the API use. `make up` sets it to the one that it starts.",
    )
    prefect_auth: SecretStr = Field(
        SecretStr(""),
        validation_alias="PREFECT_API_AUTH_STRING",
        description="`user:password` that Prefect's server and UI ask for, and that the flows and the API give. "
        "Without one Prefect asks for none, and listens on the loopback only.",
    )
    prefect_host: str = Field(
        "127.0.0.1",
        min_length=1,
        validation_alias="PREFECT_SERVER_API_HOST",
        description="Where Prefect's server listens. Any but a loopback address needs `PREFECT_API_AUTH_STRING`.",
    )
    db_host: str = Field(
        "",
        validation_alias="DB_HOST",
        description="Host of a Postgres server for Prefect's own data. Default: SQLite in `AUDIOPHILE_LOCAL`.",
    )
    db_port: int = Field(5432, ge=1, le=65_535, validation_alias="DB_PORT", description="Its port.")
    db_name: str = Field("audiophile", validation_alias="DB_NAME", description="Name of the database there.")
    db_user: str = Field("audiophile", validation_alias="DB_USER", description="User of that database.")
    db_password: SecretStr = Field(SecretStr(""), validation_alias="DB_PASSWORD", description="Its password.")
    aws_access_key_id: str = Field(
        "",
        validation_alias="AWS_ACCESS_KEY_ID",
        description="Key for S3: uploads to it, and a store in a bucket (which without one asks boto's own chain).",
    )
    aws_secret_access_key: SecretStr = Field(
        SecretStr(""), validation_alias="AWS_SECRET_ACCESS_KEY", description="Its secret."
    )
    aws_region: str = Field("", validation_alias="AWS_REGION", description="Region of the buckets.")
    aws_endpoint_url: str = Field(
        "",
        validation_alias="AWS_ENDPOINT_URL",
        pattern=r"^(https?://[^\s/?#]+(/[^\s?#]*)?)?$",
        description="Address of an S3-compatible server. Default: Amazon's.",
    )
    aws_s3_bucket: str = Field(
        "",
        validation_alias="AWS_S3_BUCKET",
        pattern=rf"^({BUCKET_NAME})?$",
        description="Bucket of uploads to S3; what others put there under `storages/` is taken in as well.",
    )
    s3_bucket_url: str = Field(
        "",
        validation_alias="S3_BUCKET_URL",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="Public base of links to objects in that bucket. Default: `s3://<AWS_S3_BUCKET>`.",
    )

    audio_from_s3: Literal["proxy", "redirect"] = Field(
        "proxy",
        validation_alias="AUDIO_FROM_S3",
        description="How the API gives recordings of a store in a bucket: `proxy` passes their bytes on, `redirect` "
        "sends clients to the bucket, which they have to reach, with an address signed for an hour.",
    )

    @field_validator("phrases", "demo_phrases", "api_cors_origins", "on_drift", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        return value

    @field_validator("phrases", "demo_phrases")
    @classmethod
    def _have_words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for phrase in value:
            if not any(character.isalnum() for character in phrase):
                raise ValueError(f"the phrase {phrase!r} has no letter or digit and could never be found: remove it")
        return value

    @field_validator("api_keys")
    @classmethod
    def _are_keys(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            parse_keys(value.get_secret_value())
        return value

    @field_validator("prefect_auth")
    @classmethod
    def _has_a_password(cls, value: SecretStr) -> SecretStr:
        user, _, password = value.get_secret_value().partition(":")
        if value.get_secret_value() and not (user and password):
            raise ValueError("it has to be a user, a colon and a password, none of them empty")
        return value

    @field_validator("api_cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin: write it as https://app.example.org, without a path")
        return value

    @field_validator("data", mode="before")
    @classmethod
    def _one_way_of_writing(cls, value: object) -> object:
        return normalised(str(value)) if isinstance(value, str | Path) else value

    @field_validator("local_folder", "file_path")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value is not None else None

    @field_validator("runner")
    @classmethod
    def _is_known_and_reaches_the_lake(cls, value: str, others: ValidationInfo) -> str:
        if value == PROCESSES:
            return value
        found = _RAY.fullmatch(value)
        if found is None or not 1 <= int(found[2]) <= 65_535:
            raise ValueError(
                f"shards run in `{PROCESSES}` of this host, or on a Ray cluster: write ray://host:port, with the "
                "head's port for clients (10001, unless it was started with another)"
            )
        data = str(others.data.get("data", S3_SCHEME))
        if not data.startswith(S3_SCHEME) and not is_loopback(found[1].strip("[]")):
            raise ValueError(
                f"another host cannot reach the folder AUDIOPHILE_DATA={data}: keep the lake in a bucket, "
                "AUDIOPHILE_DATA=s3://bucket/prefix, or name a cluster of this host alone, ray://127.0.0.1:port"
            )
        return value

    @field_validator("aws_s3_bucket")
    @classmethod
    def _apart_from_the_lake(cls, value: str, others: ValidationInfo) -> str:
        """Refuse a lake among the objects that ingest lists: it would take in its own files as recordings."""
        data = str(others.data.get("data", ""))
        if value and data.startswith(S3_SCHEME):
            bucket, prefix = split_url(data)
            if bucket == value and f"{prefix}/".startswith(STORAGES):
                raise ValueError(f"AUDIOPHILE_DATA={data} lies where uploads to it do: use another prefix")
        return value

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """The keys of the API; none means that it serves this machine only."""
        text = self.api_keys.get_secret_value()
        return parse_keys(text) if text else ()

    @property
    def access(self) -> S3Access:
        """How buckets are reached."""
        return S3Access(self.aws_endpoint_url, self.aws_region, self.aws_access_key_id, self.aws_secret_access_key)

    @property
    def place(self) -> Place:
        """Where the lake lies."""
        return Place(self.data, self.local, self.access)

    @property
    def local(self) -> Path:
        """The folder of this host's own."""
        if self.local_folder is not None:
            return self.local_folder
        return Path("data").absolute() if self.data.startswith(S3_SCHEME) else Path(self.data)

    @property
    def watched_folder(self) -> Path:
        """The folder that ingest watches, if `is_watched`."""
        return self.file_path or self.local / "incoming"

    @property
    def is_watched(self) -> bool:
        """Whether ingest watches a folder."""
        return self.watch or self.file_path is not None

    @property
    def missing_for_s3(self) -> list[str]:
        """Names of the settings that uploads to S3 lack; none means that the bucket is used."""
        needed = {
            "AWS_ACCESS_KEY_ID": self.aws_access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.aws_secret_access_key.get_secret_value(),
            "AWS_REGION": self.aws_region,
            "AWS_S3_BUCKET": self.aws_s3_bucket,
        }
        return [name for name, value in needed.items() if not value]

    @property
    def public_url(self) -> str:
        """Start of every link in answers, without a slash at its end."""
        return (self.base_url or f"http://localhost:{self.api_port}").rstrip("/")

    @property
    def prefect_url(self) -> str:
        """Prefect's REST address, which ends in /api."""
        return self.prefect_api_url or f"http://127.0.0.1:{self.prefect_port}/api"

    @property
    def searched_phrases(self) -> tuple[str, ...]:
        """Every phrase that the models look for."""
        return tuple(dict.fromkeys(self.phrases + (self.demo_phrases if self.demo else ())))


def read_settings() -> Settings:
    """Read the settings afresh, from the environment and `.env` (or the file that AUDIOPHILE_ENV_FILE names).

    Raises:
        SettingsError: A value is out of its bounds, or the file cannot be read.
    """
    file = os.environ.get(ENV_FILE, ".env")
    try:
        return Settings(_env_file=file)
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"{file} cannot be read as UTF-8 text: {error}") from error
    except ValidationError as error:
        lines = [f"{'='.join(_named(e))}: {e['msg']}" for e in error.errors()]
        raise SettingsError("; ".join(lines) + ". Set it in the environment or in .env.") from None


def _named(error: ErrorDetails) -> tuple[str, str]:
    """Return a setting and its value, which for a secret is not shown."""
    name = ".".join(str(part) for part in error["loc"])
    secret = {str(field.validation_alias) for field in Settings.model_fields.values() if field.annotation is SecretStr}
    return name, "**********" if name in secret else repr(error["input"])


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings of this process, read once."""
    return read_settings()


def require_keys(settings: Settings) -> None:
    """Make sure that whoever can reach the API either has a key or is on this machine.

    Raises:
        SettingsError: There are no keys, and other machines or all web pages could use it.
    """
    if settings.keys:
        return
    if not is_loopback(settings.api_host):
        raise SettingsError(
            f"API_HOST={settings.api_host}: whoever reaches that address could read, add and erase recordings, as "
            f"there are no keys. Set AUDIOPHILE_API_KEYS=<key>:read+upload+delete. {HOW}. Or use API_HOST=127.0.0.1"
        )
    if "*" in settings.api_cors_origins:
        raise SettingsError(
            "API_CORS_ORIGINS=*: any web page that is open on this machine could read and add recordings, as there "
            "are no keys. Name the origins, or set AUDIOPHILE_API_KEYS"
        )


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def require_writable(folder: Path, setting: str = "AUDIOPHILE_DATA") -> None:
    """Make `folder`, which `setting` names, and prove that files can be made in it.

    Raises:
        SettingsError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-"):
            pass
    except OSError as error:
        raise SettingsError(
            f"{setting}={folder}: cannot be written ({error.strerror}). "
            f"Make it writable for this user, or set {setting} to another folder."
        ) from error
