"""The Flask application."""

import logging
import re
import uuid
from time import monotonic

from flask import Flask, Response, g, request
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import HTTPException

from app import api, health, metrics
from app.runtime import Runtime
from app.sse import Streams

log = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# Room for the form around the file.
FORM_OVERHEAD_BYTES = 64 * 1024
# Asked for every few seconds by machines; in the log they would hide people's requests.
UNLOGGED = ("/api/v1/health/", "/metrics")


def create_app(runtime: Runtime) -> Flask:
    """The application; `runtime` is all it needs from outside."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = runtime.settings.max_upload_bytes + FORM_OVERHEAD_BYTES
    app.json.ensure_ascii = False
    app.json.sort_keys = False
    app.extensions["runtime"] = runtime
    app.extensions["streams"] = Streams()
    identify_requests(app)
    metrics.install(app, runtime)
    log_requests(app)
    app.register_blueprint(api.blueprint)
    app.register_blueprint(health.blueprint)
    answer_errors(app)
    return app


def identify_requests(app: Flask) -> None:
    """Keeps the proxy's X-Request-Id, or makes one, and gives it back."""

    @app.before_request
    def begin() -> None:
        given = request.headers.get("X-Request-Id", "")
        g.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

    @app.after_request
    def mark(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def log_requests(app: Flask) -> None:
    """One line per request."""

    @app.after_request
    def write(response: Response) -> Response:
        level = logging.DEBUG if request.path.startswith(UNLOGGED) else logging.INFO
        log.log(
            level,
            "request",
            extra={
                "request_id": g.request_id,
                "method": request.method,
                "path": request.path,
                "status": response.status_code,
                "duration_ms": round((monotonic() - g.started) * 1000, 1),
                "client": request.headers.get("X-Forwarded-For", request.remote_addr),
            },
        )
        return response


def answer_errors(app: Flask) -> None:
    """Every error as JSON; the details of our own only in the log."""

    @app.errorhandler(api.ApiError)
    def refuse(error: api.ApiError) -> tuple[dict, int]:
        return problem(error.code, error.message), error.status

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> tuple[dict, int]:
        code = re.sub(r"\W+", "_", (error.name or "error").lower())
        return problem(code, error.description or code), error.code or 500

    @app.errorhandler(OperationalError)
    def database(error: OperationalError) -> tuple[dict, int]:
        log.error(
            "database away",
            extra={"request_id": g.request_id, "reason": str(error.orig)},
        )
        return (
            problem("database_unavailable", "The database is away; try again soon."),
            503,
        )

    @app.errorhandler(Exception)
    def own(error: Exception) -> tuple[dict, int]:
        log.error("request failed", exc_info=error, extra={"request_id": g.request_id})
        return problem("internal_error", "An internal error occurred."), 500


def problem(code: str, message: str) -> dict:
    return {"error": {"code": code, "message": message}}
