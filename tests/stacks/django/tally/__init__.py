"""Counts what the worker has done."""

from .tasks import app as celery

__all__ = ["celery"]
