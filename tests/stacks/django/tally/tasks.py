"""What the worker does, and what beat asks it to do."""

import os

import django
from celery import Celery

app = Celery("tally", broker=os.environ["REDIS_URL"])
app.conf.broker_connection_retry_on_startup = True
app.conf.beat_schedule = {
    "tick": {"task": "tally.tasks.mark", "schedule": 1.0, "args": ["tick"]}
}


@app.task
def mark(kind):
    django.setup()
    from .models import Mark

    Mark.objects.create(kind=kind)
