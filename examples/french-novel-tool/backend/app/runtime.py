"""What a process needs besides its code: settings, database, event bus. Made once, on first use."""

from collections.abc import Callable
from dataclasses import dataclass
from os import environ

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from app.config import Settings, read_settings
from app.database import make_engine
from app.events import Events, RedisEvents


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
