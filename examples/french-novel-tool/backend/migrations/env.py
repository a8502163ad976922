"""Runs the migrations in `versions/` on the application's own database."""

from os import environ

from alembic import context
from sqlalchemy import text

from app import logs
from app.config import read_settings
from app.database import make_engine
from app.models import Base

# Any number of replicas may start at once; one migrates and the others wait for it.
LOCK = 0x4E6F76656C73


def run() -> None:
    settings = read_settings(environ)
    logs.setup(settings.log_level)
    engine = make_engine(settings)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL lock_timeout = '60s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        context.configure(
            connection=connection, target_metadata=Base.metadata, render_as_batch=True
        )
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    raise SystemExit("migrations need the database; --sql is not supported")
run()
