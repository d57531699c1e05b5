"""The one settings object, read from the environment or `.env`; it must not be read at import."""

import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from storage.errors import SettingsError

ENV_FILE: Final = "AUDIOPHILE_ENV_FILE"

Phrases = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """What a user can set. The README's table is checked against these fields by a test."""

    model_config = SettingsConfigDict(env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", frozen=True)

    data: Path = Field(
        Path("data"),
        validation_alias="AUDIOPHILE_DATA",
        description="Folder of everything that is stored, Prefect's own database included.",
    )
    file_path: Path | None = Field(
        None, validation_alias="FILE_PATH", description="Watched folder. Default: `<AUDIOPHILE_DATA>/incoming`."
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
    prefect_port: int = Field(
        4200, ge=1, le=65_535, validation_alias="PREFECT_PORT", description="Port of Prefect's server and UI."
    )
    prefect_api_url: str = Field(
        "",
        validation_alias="PREFECT_API_URL",
        description="Prefect server that the flows and the API use. `make up` sets it to the one that it starts.",
    )
    db_user: str = Field("", validation_alias="DB_USER", description="Reserved: Postgres for Prefect server.")
    db_password: SecretStr = Field(SecretStr(""), validation_alias="DB_PASSWORD", description="Reserved, likewise.")
    db_host: str = Field("", validation_alias="DB_HOST", description="Reserved, likewise.")
    db_port: int = Field(5432, ge=1, le=65_535, validation_alias="DB_PORT", description="Reserved, likewise.")
    db_name: str = Field("", validation_alias="DB_NAME", description="Reserved, likewise.")
    aws_access_key_id: str = Field("", validation_alias="AWS_ACCESS_KEY_ID", description="Reserved: uploads to S3.")
    aws_secret_access_key: SecretStr = Field(
        SecretStr(""), validation_alias="AWS_SECRET_ACCESS_KEY", description="Reserved, likewise."
    )
    aws_region: str = Field("", validation_alias="AWS_REGION", description="Reserved, likewise.")
    aws_s3_bucket: str = Field("", validation_alias="AWS_S3_BUCKET", description="Reserved, likewise.")
    s3_bucket_url: str = Field(
        "", validation_alias="S3_BUCKET_URL", description="Reserved: public base of links to objects in S3."
    )

    @field_validator("phrases", "demo_phrases", mode="before")
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

    @field_validator("data", "file_path")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value is not None else None

    @property
    def watched_folder(self) -> Path:
        """The folder that ingest watches."""
        return self.file_path or self.data / "incoming"

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
        lines = [f"{'.'.join(str(part) for part in e['loc'])}={e['input']!r}: {e['msg']}" for e in error.errors()]
        raise SettingsError("; ".join(lines) + ". Set it in the environment or in .env.") from error


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings of this process, read once."""
    return read_settings()


def require_writable(folder: Path) -> None:
    """Make `folder` and prove that files can be made in it.

    Raises:
        SettingsError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-"):
            pass
    except OSError as error:
        raise SettingsError(
            f"AUDIOPHILE_DATA={folder}: cannot be written ({error.strerror}). "
            "Make it writable for this user, or set AUDIOPHILE_DATA to another folder."
        ) from error
