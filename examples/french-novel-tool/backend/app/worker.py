"""What the Celery worker does.

A task is acknowledged after it ended, so a worker that is killed loses nothing: the queue
delivers the job again, and the batches saved so far are not done twice. One that is told to
stop ends the batch it is at and hands the job on to the next worker.
"""

import logging
import uuid
from pathlib import Path
from time import monotonic

from celery import Task, signals
from celery.exceptions import SoftTimeLimitExceeded
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app import jobs, logs, runtime
from app.jobs import Claim
from app.tasks import celery, process as process_task
from app.text import pdf
from app.text.gemini import GeminiRefused, GeminiRewriter
from app.text.rewrite import Rewriter, RulesRewriter
from app.text.split import sentences

# `celery --app=app.worker` looks for it here.
__all__ = ["celery"]

log = logging.getLogger(__name__)

# Sentences between two commits and progress events. A batch by Gemini holds few requests.
BATCH = {"rules": 100, "gemini": 10}
RETRY_SECONDS = 5
ALIVE_FILE = Path("/tmp/worker-alive")
# Tells the processes that do the work that theirs is told to stop.
STOPPING_FILE = Path("/tmp/worker-stopping")


class Stopping(Exception):
    """This worker is told to stop."""


def process(task: Task, job_id: str) -> None:
    """What the task `novels.process` does."""
    owner = uuid.uuid4().hex
    try:
        with runtime.current().sessions() as session:
            claim = jobs.claim(session, job_id, owner)
            if claim is Claim.TAKEN:
                work(session, job_id, owner)
            elif claim is Claim.HOPELESS:
                fail(session, job_id, "The file made the worker crash several times.")
            elif claim is Claim.BUSY:
                # Whoever holds it renews the lease or hands the job on; asking more often would
                # cost the more the longer a job takes and the more workers have begun.
                raise task.retry(countdown=jobs.lease_left(session, job_id) + 1)
    except OperationalError as error:
        log.warning("the database went away, the job waits", extra={"job_id": job_id})
        raise task.retry(exc=error, countdown=RETRY_SECONDS)


def work(session: Session, job_id: str, owner: str) -> None:
    """Does all that is left of a job that `owner` holds."""
    started = monotonic()
    log.info("job taken up", extra={"job_id": job_id})
    announce(session, job_id)
    try:
        finished = read_text(session, job_id, owner) and rewrite_all(session, job_id, owner)
    except (pdf.PdfError, GeminiRefused) as error:
        fail(session, job_id, str(error))
    except SoftTimeLimitExceeded:
        session.rollback()
        fail(session, job_id, "The job took longer than a job may.")
    except Stopping:
        session.rollback()
        jobs.release(session, job_id, owner)
        process_task.delay(job_id)
        log.info("job handed on", extra={"job_id": job_id})
    except (OperationalError, SystemExit):
        # The database went away or the process is ended: whoever is next goes on at once.
        session.rollback()
        jobs.release(session, job_id, owner)
        raise
    except Exception:
        log.exception("job failed by an error of our own", extra={"job_id": job_id})
        session.rollback()
        fail(session, job_id, "An internal error ended the job.")
    else:
        if finished:
            jobs.finish(session, job_id)
            announce(session, job_id)
        log.info(
            "job done" if finished else "job left to another worker or deleted",
            extra={"job_id": job_id, "seconds": round(monotonic() - started, 3)},
        )


def go_on() -> None:
    """Before every piece of work: not one more for a worker that is to stop."""
    if STOPPING_FILE.exists():
        raise Stopping


def read_text(session: Session, job_id: str, owner: str) -> bool:
    """Turns the PDF into sentences unless that was done; `False` when the lease was lost."""
    go_on()
    content = jobs.upload(session, job_id)
    # Reading takes seconds; no transaction stays open meanwhile.
    session.commit()
    if content is None:
        return True
    book = pdf.read(content)
    found = sentences(book.paragraphs)
    saved = jobs.save_text(session, job_id, owner, pages=book.pages, sentences=found)
    announce(session, job_id)
    return saved


def rewrite_all(session: Session, job_id: str, owner: str) -> bool:
    """Rewrites batch by batch; `False` when the lease was lost."""
    job = jobs.find(session, job_id)
    if job is None:
        return False
    mode, word_limit = job.mode, job.word_limit
    rewriter = make_rewriter(mode)
    while batch := jobs.next_batch(session, job_id, BATCH[mode]):
        session.commit()
        go_on()
        rewrites = rewriter.rewrite([pending.original for pending in batch], word_limit)
        if not jobs.save_batch(
            session,
            job_id,
            owner,
            word_limit=word_limit,
            batch=batch,
            rewrites=rewrites,
        ):
            return False
        announce(session, job_id)
    return True


def make_rewriter(mode: str) -> Rewriter:
    """The rewriter for a job's mode; by rules if the key was taken away since the upload."""
    settings = runtime.current().settings
    if mode == "gemini" and (key := settings.gemini_api_key):
        return GeminiRewriter(key, settings.gemini_base_url, settings.gemini_model)
    return RulesRewriter()


def fail(session: Session, job_id: str, message: str) -> None:
    """Ends the job with a message for the person who sent the file."""
    log.warning("job failed", extra={"job_id": job_id, "reason": message})
    jobs.finish(session, job_id, error=message)
    announce(session, job_id)


def announce(session: Session, job_id: str) -> None:
    """Tells the watchers. They can do without, so a missing Redis does not stop the work."""
    session.expire_all()
    job = jobs.find(session, job_id)
    session.commit()
    if job is None:
        return
    try:
        runtime.current().events.publish(job_id, jobs.describe(job))
    except RedisError as error:
        log.warning("progress not announced", extra={"job_id": job_id, "reason": str(error)})


# --- life of the worker process ------------------------------------------------------------


@signals.setup_logging.connect
def setup_logging(**_: object) -> None:
    logs.setup(runtime.current().settings.log_level)


@signals.celeryd_init.connect
def forget_last_life(**_: object) -> None:
    """After a restart in place, the old files say nothing about the new process."""
    ALIVE_FILE.unlink(missing_ok=True)
    STOPPING_FILE.unlink(missing_ok=True)


@signals.worker_shutting_down.connect
def note_stopping(**_: object) -> None:
    STOPPING_FILE.touch()


@signals.worker_process_init.connect
def start_child(**_: object) -> None:
    """A forked child must not share its parent's connections."""
    runtime.use(None)


@signals.heartbeat_sent.connect
def note_alive(**_: object) -> None:
    """What the container's health check looks at: this process still turns its event loop."""
    ALIVE_FILE.touch()


@signals.worker_ready.connect
def take_up_unfinished(**_: object) -> None:
    """Queues what a crash left behind. A job that is queued twice is worked on once."""
    try:
        with runtime.current().sessions() as session:
            waiting = jobs.unfinished_ids(session)
    except OperationalError as error:
        log.warning("unfinished jobs not looked up", extra={"reason": str(error)})
        return
    for job_id in waiting:
        process_task.delay(job_id)
