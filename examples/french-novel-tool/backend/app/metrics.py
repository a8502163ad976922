"""What Prometheus reads at /metrics. One worker process per container, so nothing to merge."""

import logging
from collections.abc import Iterator
from time import monotonic

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram
from prometheus_client import Gauge, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from app import jobs
from app.models import Status
from app.runtime import Runtime
from app.version import VERSION

log = logging.getLogger(__name__)


class JobsCollector(Collector):
    """Counts the jobs in the database when asked; leaves them out while it is away."""

    def __init__(self, runtime: Runtime):
        self.runtime = runtime

    def collect(self) -> Iterator[Metric]:
        try:
            with self.runtime.sessions() as session:
                counts = jobs.count_by_status(session)
        except SQLAlchemyError as error:
            log.warning("jobs not counted", extra={"reason": str(error)})
            return
        family = GaugeMetricFamily("novels_jobs", "Jobs by status.", labels=["status"])
        for status in Status:
            family.add_metric([status], counts.get(status, 0))
        yield family


def install(app: Flask, runtime: Runtime) -> None:
    """Measures every request and answers /metrics."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(JobsCollector(runtime))
    requests = Counter(
        "http_requests_total",
        "Requests answered.",
        ["method", "route", "status"],
        registry=registry,
    )
    seconds = Histogram(
        "http_request_duration_seconds",
        "Time until the answer began.",
        ["method", "route"],
        registry=registry,
    )
    Gauge("novels_build_info", "The running version.", ["version"], registry=registry).labels(
        VERSION
    ).set(1)

    @app.before_request
    def start() -> None:
        g.started = monotonic()

    @app.after_request
    def measure(response: Response) -> Response:
        # The route, not the path: paths hold ids and would be without end.
        route = request.url_rule.rule if request.url_rule else "unknown"
        method = request.method if request.url_rule else "any"
        requests.labels(method, route, response.status_code).inc()
        seconds.labels(method, route).observe(monotonic() - g.started)
        return response

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
