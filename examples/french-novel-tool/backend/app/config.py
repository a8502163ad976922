"""Settings, read once from the environment. A secret `X` may also come from the file `X_FILE`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url

DEFAULT_WORD_LIMIT = 20
WORD_LIMITS = range(8, 101)


class ConfigError(Exception):
    """A setting is missing or cannot be read."""


@dataclass(frozen=True)
class Settings:
    """Everything that differs from one installation to another."""

    database_url: URL
    redis_url: str
    max_upload_bytes: int
    gemini_api_key: str | None
    gemini_base_url: str
    gemini_model: str
    log_level: str


def read_settings(env: Mapping[str, str]) -> Settings:
    """Checks and converts `env`; raises ConfigError that names the variable at fault."""
    return Settings(
        database_url=database_url(env),
        redis_url=env.get("REDIS_URL") or "redis://redis:6379/0",
        max_upload_bytes=megabytes(env, "MAX_UPLOAD_MB", 25),
        gemini_api_key=secret(env, "GEMINI_API_KEY"),
        gemini_base_url=(
            env.get("GEMINI_BASE_URL") or "https://generativelanguage.googleapis.com"
        ).rstrip("/"),
        gemini_model=env.get("GEMINI_MODEL") or "gemini-2.5-flash",
        log_level=(env.get("LOG_LEVEL") or "INFO").upper(),
    )


def database_url(env: Mapping[str, str]) -> URL:
    """`DATABASE_URL` as it is, or a Postgres URL from the `DB_*` variables."""
    if url := env.get("DATABASE_URL"):
        return make_url(url)
    return URL.create(
        "postgresql+psycopg",
        username=env.get("DB_USER") or "novels",
        password=secret(env, "DB_PASSWORD"),
        host=env.get("DB_HOST") or "db",
        port=int(env.get("DB_PORT") or 5432),
        database=env.get("DB_NAME") or "novels",
    )


def secret(env: Mapping[str, str], name: str) -> str | None:
    """The value of `name`, or of the file that `name`_FILE points to; empty counts as unset."""
    if path := env.get(f"{name}_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").strip() or None
        except OSError as error:
            raise ConfigError(f"cannot read {name}_FILE ({path}): {error.strerror}") from error
    return env.get(name) or None


def megabytes(env: Mapping[str, str], name: str, default: int) -> int:
    """A positive number of MB, in bytes."""
    text = env.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{name} must be a whole number of megabytes, not {text!r}")
    return int(text) * 1024 * 1024
