"""What a process needs besides its code: settings, database, event bus. Made once, on first use."""

from collections.abc import Callable
from dataclasses import dataclass
from os import environ

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session, sessionmaker

from app.config import Settings, read_settings
from app.events import Events, RedisEvents

CONNECT_TIMEOUT_SECONDS = 3


@dataclass(frozen=True)
class Runtime:
    """Shared by all requests and tasks of a process; thread-safe."""

    settings: Settings
    engine: Engine
    sessions: Callable[[], Session]
    events: Events


def make_runtime(settings: Settings, events: Events | None = None) -> Runtime:
    """Connects nothing yet; the first query does."""
    engine = make_engine(settings)
    return Runtime(
        settings=settings,
        engine=engine,
        sessions=sessionmaker(engine, expire_on_commit=False),
        events=events or RedisEvents(settings.redis_url),
    )


def make_engine(settings: Settings) -> Engine:
    url = settings.database_url
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url)
        event.listen(engine, "connect", lambda dbapi, _: dbapi.execute("PRAGMA foreign_keys=ON"))
        return engine
    # Ping first: after a restart of the database no request fails on a dead connection.
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=4,
        max_overflow=8,
        pool_timeout=10,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS},
    )


_runtime: Runtime | None = None


def current() -> Runtime:
    """This process's runtime, made from the environment unless `use` was called."""
    global _runtime
    if _runtime is None:
        _runtime = make_runtime(read_settings(environ))
    return _runtime


def use(runtime: Runtime | None) -> None:
    """Replaces this process's runtime."""
    global _runtime
    _runtime = runtime
