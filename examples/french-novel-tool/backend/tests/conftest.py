"""One application per test: SQLite in a temporary folder, Celery run in the request."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import make_pdf
from app import runtime
from app.config import read_settings
from app.events import LocalEvents
from app.runtime import make_runtime
from app.web import create_app
from app.tasks import celery

BACKEND = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def migrated(tmp_path_factory) -> Path:
    """A database with the tables that the real migrations make."""
    path = tmp_path_factory.mktemp("migrated") / "novels.db"
    subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=BACKEND,
        env={"DATABASE_URL": f"sqlite:///{path}"},
        check=True,
        capture_output=True,
    )
    return path


@pytest.fixture
def current(migrated, tmp_path):
    """The runtime of this test."""
    shutil.copy(migrated, tmp_path / "novels.db")
    settings = read_settings({"DATABASE_URL": f"sqlite:///{tmp_path}/novels.db"})
    made = make_runtime(settings, LocalEvents())
    runtime.use(made)
    celery.conf.task_always_eager = True
    yield made
    celery.conf.task_always_eager = False
    runtime.use(None)
    made.engine.dispose()


@pytest.fixture
def client(current):
    return create_app(current).test_client()


@pytest.fixture(scope="session")
def sample_pdf() -> bytes:
    return make_pdf.pdf(make_pdf.SAMPLE.read_text(encoding="utf-8"))
