"""The Celery application and its one task.

Imported by the web processes too, which only send; what a task needs to run is imported
when one runs, so that a web process starts without PDF reader and model client.
"""

from os import environ

from celery import Celery, Task

# A whole novel through Gemini takes minutes; an hour means something hangs.
SOFT_LIMIT_SECONDS = 3300
HARD_LIMIT_SECONDS = 3360

celery = Celery("novels", broker=environ.get("REDIS_URL") or "redis://redis:6379/0")
celery.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_soft_time_limit=SOFT_LIMIT_SECONDS,
    task_time_limit=HARD_LIMIT_SECONDS,
    worker_prefetch_multiplier=1,
    # Redis may restart while a task runs: it goes on, and when it is delivered once more there
    # is nothing left to do.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        # Longer than the hard limit, or a running task would be delivered again.
        "visibility_timeout": HARD_LIMIT_SECONDS + 240,
        "socket_connect_timeout": 2,
        "socket_timeout": 30,
        "health_check_interval": 30,
    },
    task_publish_retry_policy={
        "max_retries": 2,
        "interval_start": 0.1,
        "interval_step": 0.2,
    },
)


@celery.task(bind=True, name="novels.process", max_retries=None)
def process(self: Task, job_id: str) -> None:
    """Reads, splits and rewrites one novel, from wherever an earlier attempt stopped."""
    from app import worker

    worker.process(self, job_id)
