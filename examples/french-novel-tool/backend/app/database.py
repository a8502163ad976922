"""The database's engine; all that a migration needs, which starts without the rest."""

from sqlalchemy import Engine, create_engine, event

from app.config import Settings

CONNECT_TIMEOUT_SECONDS = 3


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
