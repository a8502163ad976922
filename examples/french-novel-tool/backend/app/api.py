"""The HTTP API under /api/v1. Errors are `{"error": {"code", "message"}}`."""

import csv
import io
import json
import logging
import re
import uuid
from collections.abc import Iterator

from flask import Blueprint, Response, current_app, request
from kombu.exceptions import OperationalError as QueueError

from app import jobs, sse
from app.config import DEFAULT_WORD_LIMIT, WORD_LIMITS
from app.models import Job, Status
from app.runtime import Runtime
from app.version import VERSION
from app.tasks import process

log = logging.getLogger(__name__)
blueprint = Blueprint("api", __name__, url_prefix="/api/v1")

MODES = ("rules", "gemini")
# A PDF may carry a little junk before its first line.
MAGIC_WITHIN = 1024
MAX_PAGE = 500
# A spreadsheet would take a cell that starts so for a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class ApiError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def runtime() -> Runtime:
    return current_app.extensions["runtime"]


@blueprint.get("/version")
def version() -> dict:
    return {"version": VERSION}


@blueprint.get("/options")
def options() -> dict:
    """What an upload may ask for here."""
    return {
        "modes": (["rules", "gemini"] if runtime().settings.gemini_api_key else ["rules"]),
        "word_limit": {
            "default": DEFAULT_WORD_LIMIT,
            "min": WORD_LIMITS.start,
            "max": WORD_LIMITS.stop - 1,
        },
        "max_upload_bytes": runtime().settings.max_upload_bytes,
    }


@blueprint.post("/jobs")
def create_job() -> tuple[dict, int, dict]:
    """Takes a PDF (multipart field `file`) and queues it; answers 202 at once."""
    upload = request.files.get("file")
    if upload is None or not upload.filename:
        raise ApiError(400, "file_missing", "Send a PDF in the form field 'file'.")
    content = upload.read()
    if b"%PDF-" not in content[:MAGIC_WITHIN]:
        raise ApiError(415, "not_a_pdf", "The file is not a PDF.")
    mode, word_limit = requested_mode(), requested_word_limit()
    with runtime().sessions() as session:
        job = jobs.create(
            session,
            filename=safe_filename(upload.filename),
            content=content,
            mode=mode,
            word_limit=word_limit,
        )
        try:
            process.delay(job.id)
        except QueueError as error:
            log.error("job not queued", extra={"job_id": job.id, "reason": str(error)})
            jobs.remove(session, job.id)
            raise ApiError(
                503, "queue_unavailable", "The job queue is away; try again soon."
            ) from error
        log.info("job queued", extra={"job_id": job.id, "bytes": len(content), "mode": mode})
        return jobs.describe(job), 202, {"Location": f"/api/v1/jobs/{job.id}"}


def requested_mode() -> str:
    mode = request.form.get("mode") or "rules"
    if mode not in MODES:
        raise ApiError(422, "bad_mode", "'mode' must be 'rules' or 'gemini'.")
    if mode == "gemini" and not runtime().settings.gemini_api_key:
        raise ApiError(422, "gemini_not_configured", "No Gemini key is configured here.")
    return mode


def requested_word_limit() -> int:
    text = request.form.get("word_limit") or str(DEFAULT_WORD_LIMIT)
    if not text.isdecimal() or len(text) > 4 or int(text) not in WORD_LIMITS:
        raise ApiError(
            422,
            "bad_word_limit",
            f"'word_limit' must be from {WORD_LIMITS.start} to {WORD_LIMITS.stop - 1}.",
        )
    return int(text)


def safe_filename(name: str) -> str:
    """The last part of a path, without control characters, short enough for its column."""
    last = re.split(r"[\\/]", name)[-1]
    return "".join(c for c in last if c.isprintable()).strip()[-255:] or "novel.pdf"


@blueprint.get("/jobs")
def list_jobs() -> dict:
    """The history, newest first."""
    limit, offset = page_arguments(default=20)
    with runtime().sessions() as session:
        page, total = jobs.recent(session, limit=limit, offset=offset)
        return {
            "jobs": [jobs.describe(job) for job in page],
            "total": total,
            "limit": limit,
            "offset": offset,
        }


@blueprint.get("/jobs/<job_id>")
def get_job(job_id: str) -> dict:
    """The job; its sentences are read by `/sentences` or `/export`."""
    with runtime().sessions() as session:
        return jobs.describe(require(jobs.find(session, checked(job_id))))


@blueprint.get("/jobs/<job_id>/sentences")
def get_sentences(job_id: str) -> dict:
    """A page of sentences with what became of them; `only=rewritten` leaves out the others."""
    limit, offset = page_arguments(default=100)
    only = request.args.get("only") or "all"
    if only not in ("all", "rewritten"):
        raise ApiError(422, "bad_only", "'only' must be 'all' or 'rewritten'.")
    with runtime().sessions() as session:
        job = require(jobs.find(session, checked(job_id)))
        page = jobs.sentences(
            session,
            job.id,
            limit=limit,
            offset=offset,
            rewritten_only=only == "rewritten",
        )
        return {
            "sentences": [jobs.describe_sentence(sentence) for sentence in page],
            "total": job.rewritten if only == "rewritten" else job.total or 0,
            "limit": limit,
            "offset": offset,
        }


@blueprint.delete("/jobs/<job_id>")
def delete_job(job_id: str) -> tuple[str, int]:
    """Removes the job and all it holds; a worker that is at it stops at its next batch."""
    with runtime().sessions() as session:
        if not jobs.remove(session, checked(job_id)):
            raise not_found()
    log.info("job deleted", extra={"job_id": job_id})
    return "", 204


@blueprint.get("/jobs/<job_id>/events")
def job_events(job_id: str) -> Response:
    """The job's state as server-sent events: `job` at every change, then `end`."""
    with runtime().sessions() as session:
        require(jobs.find(session, checked(job_id)))
    streams: sse.Streams = current_app.extensions["streams"]
    stream = streams.try_open(runtime(), job_id)
    if stream is None:
        raise ApiError(503, "too_many_streams", "Too many streams are open; ask again soon.")
    return Response(
        stream,
        content_type="text/event-stream; charset=utf-8",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@blueprint.get("/jobs/<job_id>/export")
def export_job(job_id: str) -> Response:
    """The whole result as a file, `format=csv` or `format=json`."""
    writer = {"csv": csv_rows, "json": json_pieces}.get(request.args.get("format") or "json")
    if writer is None:
        raise ApiError(422, "bad_format", "'format' must be 'csv' or 'json'.")
    with runtime().sessions() as session:
        job = require(jobs.find(session, checked(job_id)))
    if job.status != Status.DONE:
        raise ApiError(409, "not_done", "The job has no complete result.")
    kind = "text/csv" if writer is csv_rows else "application/json"
    extension = "csv" if writer is csv_rows else "json"
    return Response(
        writer(runtime(), job),
        content_type=f"{kind}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{stem(job)}.{extension}"'},
    )


def stem(job: Job) -> str:
    """A file name without surprises for a header: ASCII letters, digits and dashes."""
    name = re.sub(r"\.pdf$", "", job.filename, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:80] or "novel"


def csv_rows(runtime: Runtime, job: Job) -> Iterator[str]:
    """One row per produced sentence; the byte order mark makes spreadsheets read UTF-8."""
    buffer = io.StringIO()
    rows = csv.writer(buffer)
    buffer.write("\ufeff")
    rows.writerow(["position", "part", "method", "original", "sentence"])
    with runtime.sessions() as session:
        for sentence in jobs.all_sentences(session, job.id):
            for part, produced in enumerate(sentence.parts or [], 1):
                rows.writerow(
                    [
                        sentence.position,
                        part,
                        sentence.method,
                        safe_cell(sentence.original),
                        safe_cell(produced),
                    ]
                )
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()


def safe_cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def json_pieces(runtime: Runtime, job: Job) -> Iterator[str]:
    """`{"job": …, "sentences": […]}`, written as it is read."""
    yield f'{{"job": {json.dumps(jobs.describe(job), ensure_ascii=False)}, "sentences": ['
    with runtime.sessions() as session:
        for index, sentence in enumerate(jobs.all_sentences(session, job.id)):
            line = json.dumps(jobs.describe_sentence(sentence), ensure_ascii=False)
            yield f"{',' if index else ''}\n{line}"
    yield "\n]}\n"


def checked(job_id: str) -> str:
    """A well-formed id; anything else is as good as unknown."""
    try:
        return str(uuid.UUID(job_id))
    except ValueError as error:
        raise not_found() from error


def require(job: Job | None) -> Job:
    if job is None:
        raise not_found()
    return job


def not_found() -> ApiError:
    return ApiError(404, "job_not_found", "There is no such job.")


def page_arguments(default: int) -> tuple[int, int]:
    """`limit` and `offset` of the query."""
    values = []
    for name, value, least, most in (
        ("limit", default, 1, MAX_PAGE),
        ("offset", 0, 0, 10**9),
    ):
        text = request.args.get(name) or str(value)
        if not text.isdecimal() or len(text) > 10 or not least <= int(text) <= most:
            raise ApiError(422, f"bad_{name}", f"'{name}' must be from {least} to {most}.")
        values.append(int(text))
    return values[0], values[1]
