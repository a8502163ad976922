"""Progress of jobs from the worker to whoever watches, over Redis publish/subscribe.

Every message is the whole state of the job, so a lost one does no harm: a watcher reads
the state from the database after it subscribed, and every later message replaces it.
"""

import json
import queue
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import redis

TIMEOUT_SECONDS = 2
# Messages a slow watcher may lag behind before the oldest is dropped (in-process bus only).
BACKLOG = 256


class Subscription(Protocol):
    """What one watcher reads from."""

    def next(self, timeout_seconds: float) -> dict | None:
        """The next message, or `None` when none came in time."""


class Events(Protocol):
    """The bus."""

    def publish(self, job_id: str, state: dict) -> None: ...

    def subscribe(self, job_id: str) -> AbstractContextManager[Subscription]: ...

    def ping(self) -> None:
        """Raises when the bus cannot be reached."""


class RedisEvents:
    """The bus between containers."""

    def __init__(self, url: str):
        self.redis = redis.Redis.from_url(
            url,
            socket_connect_timeout=TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            health_check_interval=30,
        )

    def publish(self, job_id: str, state: dict) -> None:
        self.redis.publish(channel(job_id), json.dumps(state))

    @contextmanager
    def subscribe(self, job_id: str) -> Iterator[Subscription]:
        with self.redis.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(channel(job_id))
            yield RedisSubscription(pubsub)

    def ping(self) -> None:
        self.redis.ping()


class RedisSubscription:
    """One watcher's connection to Redis."""

    def __init__(self, pubsub: redis.client.PubSub):
        self.pubsub = pubsub

    def next(self, timeout_seconds: float) -> dict | None:
        message = self.pubsub.get_message(timeout=timeout_seconds)
        return json.loads(message["data"]) if message else None


class LocalEvents:
    """The bus within one process, for tests and for running without Redis."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.queues: dict[str, list[queue.Queue[dict]]] = defaultdict(list)

    def publish(self, job_id: str, state: dict) -> None:
        with self.lock:
            watchers = list(self.queues.get(job_id, ()))
        for watcher in watchers:
            if watcher.full():
                watcher.get_nowait()
            watcher.put_nowait(json.loads(json.dumps(state)))

    @contextmanager
    def subscribe(self, job_id: str) -> Iterator[Subscription]:
        own: queue.Queue[dict] = queue.Queue(BACKLOG)
        with self.lock:
            self.queues[job_id].append(own)
        try:
            yield LocalSubscription(own)
        finally:
            with self.lock:
                self.queues[job_id].remove(own)

    def ping(self) -> None:
        return None


class LocalSubscription:
    """One watcher's queue."""

    def __init__(self, own: queue.Queue[dict]):
        self.own = own

    def next(self, timeout_seconds: float) -> dict | None:
        try:
            return self.own.get(timeout=timeout_seconds)
        except queue.Empty:
            return None


def channel(job_id: str) -> str:
    return f"job:{job_id}"
