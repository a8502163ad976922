"""Server-sent events: the state of one job until it is over."""

import json
import logging
import threading
from collections.abc import Iterator
from time import monotonic

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from app import jobs
from app.models import UNFINISHED
from app.runtime import Runtime

log = logging.getLogger(__name__)

# A comment this often keeps proxies from taking the stream for dead.
KEEP_ALIVE_SECONDS = 10.0
# The browser connects again by itself; a stream that never ends would hold up a deploy.
LONGEST_SECONDS = 600.0
RETRY_MILLISECONDS = 1000
# Each stream holds a thread; the others are for requests.
MAX_STREAMS = 24
# How often a waiting stream looks whether the server is about to stop.
TICK_SECONDS = 0.5


class Streams:
    """The open streams of this process."""

    def __init__(self, most: int = MAX_STREAMS):
        self.places = threading.BoundedSemaphore(most)
        self.stopping = threading.Event()

    def stop(self) -> None:
        """Ends every stream within a tick; safe to call from a signal handler."""
        self.stopping.set()

    def try_open(self, runtime: Runtime, job_id: str) -> Iterator[str] | None:
        """The stream of a job that exists; `None` when there are too many streams."""
        if not self.places.acquire(blocking=False):
            return None
        return HeldStream(self.events(runtime, job_id), self.places)

    def events(self, runtime: Runtime, job_id: str) -> Iterator[str]:
        yield f"retry: {RETRY_MILLISECONDS}\n\n"
        try:
            # Subscribe first, then read the state: nothing can fall between the two.
            with runtime.events.subscribe(job_id) as subscription:
                with runtime.sessions() as session:
                    job = jobs.find(session, job_id)
                    state = jobs.describe(job) if job else None
                if state is None:
                    yield message("gone", {})
                    return
                yield message("job", state)
                deadline = monotonic() + LONGEST_SECONDS
                silent_since = monotonic()
                while state["status"] in UNFINISHED:
                    if self.stopping.is_set() or monotonic() > deadline:
                        return
                    if news := subscription.next(TICK_SECONDS):
                        state = news
                        yield message("job", state)
                        silent_since = monotonic()
                    elif monotonic() - silent_since > KEEP_ALIVE_SECONDS:
                        yield ": still here\n\n"
                        silent_since = monotonic()
                yield message("end", {})
        except (RedisError, SQLAlchemyError) as error:
            # The browser reconnects and reads the state again.
            log.warning("stream ended early", extra={"job_id": job_id, "reason": str(error)})


class HeldStream:
    """An iterator that gives its place back when the server closes it, even if never started."""

    def __init__(self, events: Iterator[str], places: threading.BoundedSemaphore):
        self.events = events
        self.places = places
        self.open = True

    def __iter__(self) -> "HeldStream":
        return self

    def __next__(self) -> str:
        return next(self.events)

    def close(self) -> None:
        if self.open:
            self.open = False
            self.events.close()
            self.places.release()


def message(event: str, data: dict) -> str:
    return f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
