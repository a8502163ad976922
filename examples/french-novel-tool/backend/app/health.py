"""Whether this replica runs (`live`) and whether it may be sent requests (`ready`)."""

import logging

from flask import Blueprint, current_app
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.runtime import Runtime

log = logging.getLogger(__name__)
blueprint = Blueprint("health", __name__, url_prefix="/api/v1/health")


@blueprint.get("/live")
def live() -> dict:
    return {"status": "ok"}


@blueprint.get("/ready")
def ready() -> tuple[dict, int]:
    """200 when the database and Redis answer, else 503 that says which does not."""
    runtime: Runtime = current_app.extensions["runtime"]
    checks = {"database": database(runtime), "redis": bus(runtime)}
    healthy = all(state == "ok" for state in checks.values())
    return {"status": "ok" if healthy else "unavailable", "checks": checks}, (
        200 if healthy else 503
    )


def database(runtime: Runtime) -> str:
    try:
        with runtime.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        log.warning("not ready: database", extra={"reason": str(error)})
        return "unavailable"
    return "ok"


def bus(runtime: Runtime) -> str:
    try:
        runtime.events.ping()
    except RedisError as error:
        log.warning("not ready: redis", extra={"reason": str(error)})
        return "unavailable"
    return "ok"
