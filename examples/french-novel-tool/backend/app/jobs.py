"""All that happens to a job, as one short transaction each.

A worker holds a job by a lease it renews with every batch. The queue may deliver a job
twice, or to a second worker while the first is still at it; the lease decides, and every
batch is saved with the lease in the condition, so that work is neither lost nor doubled.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto

from sqlalchemy import case, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from app.models import UNFINISHED, Job, Sentence, Status, Upload
from app.text.rewrite import Rewrite
from app.text.split import count_words

# After a crash a job waits this long. A batch that takes longer, which only one by Gemini with
# all its tries does, may be taken over by another worker; then the first one's is not saved.
LEASE = timedelta(seconds=60)
# A job that was taken up so often without one batch saved takes its worker down each time.
MAX_ATTEMPTS = 3
# Rows fetched at a time while exporting.
EXPORT_ROWS = 500


class Claim(Enum):
    """Whether a worker may work on a job."""

    TAKEN = auto()
    BUSY = auto()
    OVER = auto()
    HOPELESS = auto()


@dataclass(frozen=True)
class Pending:
    """A sentence that waits to be rewritten."""

    position: int
    original: str


def now() -> datetime:
    return datetime.now(UTC)


def create(session: Session, *, filename: str, content: bytes, mode: str, word_limit: int) -> Job:
    job = Job(
        id=str(uuid.uuid4()),
        filename=filename,
        size_bytes=len(content),
        mode=mode,
        word_limit=word_limit,
        status=Status.QUEUED,
        done=0,
        rewritten=0,
        produced=0,
        too_long=0,
        attempts=0,
        created_at=now(),
    )
    session.add(job)
    session.flush()
    session.add(Upload(job_id=job.id, content=content))
    session.commit()
    return job


def find(session: Session, job_id: str) -> Job | None:
    return session.get(Job, job_id)


def recent(session: Session, *, limit: int, offset: int) -> tuple[list[Job], int]:
    """Newest first, and how many there are in all."""
    page = select(Job).order_by(Job.created_at.desc(), Job.id).limit(limit).offset(offset)
    total = session.scalar(select(func.count()).select_from(Job))
    return list(session.scalars(page)), total or 0


def unfinished_ids(session: Session) -> list[str]:
    return list(session.scalars(select(Job.id).where(Job.status.in_(UNFINISHED))))


def count_by_status(session: Session) -> dict[str, int]:
    rows = session.execute(select(Job.status, func.count()).group_by(Job.status))
    return {status: number for status, number in rows}


def remove(session: Session, job_id: str) -> bool:
    gone = session.execute(delete(Job).where(Job.id == job_id)).rowcount
    session.commit()
    return gone > 0


def claim(session: Session, job_id: str, owner: str) -> Claim:
    """Takes the job unless someone else holds it or nothing is left to do."""
    free = or_(Job.leased_until.is_(None), Job.leased_until < now(), Job.owner == owner)
    taken = session.execute(
        update(Job)
        .where(
            Job.id == job_id,
            Job.status.in_(UNFINISHED),
            free,
            Job.attempts < MAX_ATTEMPTS,
        )
        .values(
            owner=owner,
            leased_until=now() + LEASE,
            attempts=Job.attempts + 1,
            status=Status.RUNNING,
            started_at=func.coalesce(Job.started_at, now()),
        )
    ).rowcount
    session.commit()
    if taken:
        return Claim.TAKEN
    job = find(session, job_id)
    if job is None or job.status not in UNFINISHED:
        return Claim.OVER
    # Its last worker may still be at it; only when that lease ran out is it hopeless.
    expired = lease_left(session, job_id) == 0
    return Claim.HOPELESS if expired and job.attempts >= MAX_ATTEMPTS else Claim.BUSY


def lease_left(session: Session, job_id: str) -> float:
    """Seconds until another worker's hold on the job ends, unless it is renewed."""
    job = find(session, job_id)
    if job is None or job.leased_until is None:
        return 0.0
    left = aware(job.leased_until) - now()
    return min(max(left, timedelta()), LEASE).total_seconds()


def release(session: Session, job_id: str, owner: str) -> None:
    """Gives an unfinished job back at once, for the next delivery to take up. Whoever does has not
    crashed over it."""
    attempts = case((Job.attempts > 0, Job.attempts - 1), else_=0)
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.owner == owner, Job.status.in_(UNFINISHED))
        .values(leased_until=None, attempts=attempts)
    )
    session.commit()


def upload(session: Session, job_id: str) -> bytes | None:
    """The PDF; `None` once its text was saved."""
    return session.scalar(select(Upload.content).where(Upload.job_id == job_id))


def save_text(
    session: Session, job_id: str, owner: str, *, pages: int, sentences: list[str]
) -> bool:
    """Stores the sentences and drops the PDF; `False` when the lease was lost."""
    if not renew(session, job_id, owner, pages=pages, total=len(sentences), attempts=0):
        return False
    rows = [
        {"job_id": job_id, "position": position, "original": original}
        for position, original in enumerate(sentences)
    ]
    if rows:
        session.execute(insert(Sentence), rows)
    session.execute(delete(Upload).where(Upload.job_id == job_id))
    session.commit()
    return True


def next_batch(session: Session, job_id: str, size: int) -> list[Pending]:
    rows = session.execute(
        select(Sentence.position, Sentence.original)
        .where(Sentence.job_id == job_id, Sentence.method.is_(None))
        .order_by(Sentence.position)
        .limit(size)
    )
    return [Pending(position, original) for position, original in rows]


def save_batch(
    session: Session,
    job_id: str,
    owner: str,
    *,
    word_limit: int,
    batch: list[Pending],
    rewrites: list[Rewrite],
) -> bool:
    """Stores what became of the batch; `False` when the lease was lost or the job deleted."""
    parts = [part for rewrite in rewrites for part in rewrite.parts]
    if not renew(
        session,
        job_id,
        owner,
        attempts=0,
        done=Job.done + len(batch),
        rewritten=Job.rewritten + sum(rewrite.method != "kept" for rewrite in rewrites),
        produced=Job.produced + len(parts),
        too_long=Job.too_long + sum(count_words(part) > word_limit for part in parts),
    ):
        return False
    session.execute(
        update(Sentence),
        [
            {
                "job_id": job_id,
                "position": pending.position,
                "parts": rewrite.parts,
                "method": rewrite.method,
            }
            for pending, rewrite in zip(batch, rewrites, strict=True)
        ],
    )
    session.commit()
    return True


def renew(session: Session, job_id: str, owner: str, **values: object) -> bool:
    """Sets `values` and a fresh lease if `owner` still holds the job; leaves committing."""
    held = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.owner == owner, Job.status == Status.RUNNING)
        .values(leased_until=now() + LEASE, **values)
    ).rowcount
    if not held:
        session.rollback()
    return held > 0


def finish(session: Session, job_id: str, error: str | None = None) -> None:
    """Done, or failed with a message for the person who sent the file."""
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.status.in_(UNFINISHED))
        .values(
            status=Status.FAILED if error else Status.DONE,
            error=error,
            finished_at=now(),
            leased_until=None,
        )
    )
    session.execute(delete(Upload).where(Upload.job_id == job_id))
    session.commit()


def sentences(
    session: Session,
    job_id: str,
    *,
    limit: int,
    offset: int,
    rewritten_only: bool = False,
) -> list[Sentence]:
    wanted = select(Sentence).where(Sentence.job_id == job_id)
    if rewritten_only:
        wanted = wanted.where(Sentence.method != "kept")
    return list(session.scalars(wanted.order_by(Sentence.position).limit(limit).offset(offset)))


def all_sentences(session: Session, job_id: str) -> Iterator[Sentence]:
    """Every sentence in order, a page at a time."""
    position = -1
    while True:
        page = list(
            session.scalars(
                select(Sentence)
                .where(Sentence.job_id == job_id, Sentence.position > position)
                .order_by(Sentence.position)
                .limit(EXPORT_ROWS)
            )
        )
        yield from page
        if len(page) < EXPORT_ROWS:
            return
        position = page[-1].position
        session.expunge_all()


def describe(job: Job) -> dict:
    """A job as the API and the events show it."""
    return {
        "id": job.id,
        "filename": job.filename,
        "size_bytes": job.size_bytes,
        "mode": job.mode,
        "word_limit": job.word_limit,
        "status": str(job.status),
        "error": job.error,
        "pages": job.pages,
        "sentences": {
            "total": job.total,
            "done": job.done,
            "rewritten": job.rewritten,
            "produced": job.produced,
            "too_long": job.too_long,
        },
        "created_at": timestamp(job.created_at),
        "started_at": timestamp(job.started_at),
        "finished_at": timestamp(job.finished_at),
    }


def describe_sentence(sentence: Sentence) -> dict:
    """A sentence as the API and the JSON export show it."""
    return {
        "position": sentence.position,
        "original": sentence.original,
        "method": sentence.method,
        "sentences": sentence.parts,
    }


def timestamp(time: datetime | None) -> str | None:
    return aware(time).isoformat(timespec="seconds") if time else None


def aware(time: datetime) -> datetime:
    """SQLite gives times back without their zone; they are UTC."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)
