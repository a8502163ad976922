"""Gunicorn's settings; it reads this file from the working directory."""

import os
import signal

from app import logs

bind = "0.0.0.0:5000"
wsgi_app = "app.wsgi:app"
# Threads, because a server-sent event stream waits rather than works. One process per
# container, because replicas are the platform's business and metrics need no merging.
worker_class = "gthread"
workers = 1
threads = 32
# Heartbeats go to memory, not to the container's disk.
worker_tmp_dir = "/dev/shm"
timeout = 60
# Within the container's stop_grace_period.
graceful_timeout = 20
# Longer than the proxy in front keeps an idle connection, so that it is the proxy that
# closes: otherwise a request could meet a connection that is just being closed.
keepalive = 75
accesslog = None
control_socket_disable = True
logconfig_dict = logs.config(os.environ.get("LOG_LEVEL", "INFO").upper())


def post_worker_init(worker):
    """On SIGTERM, open event streams end too; browsers reconnect to another replica."""
    streams = worker.app.wsgi().extensions["streams"]
    stop_worker = signal.getsignal(signal.SIGTERM)

    def stop(number, frame):
        streams.stop()
        stop_worker(number, frame)

    signal.signal(signal.SIGTERM, stop)
