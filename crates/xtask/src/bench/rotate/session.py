"""Tells what a session key comes to that is read at the start and on SIGHUP."""

import hashlib
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEY = b""


def load(*_):
    global KEY
    KEY = Path("/run/secrets/session-key").read_bytes()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = hashlib.sha256(KEY).hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


load()
signal.signal(signal.SIGHUP, load)
server = ThreadingHTTPServer(("0.0.0.0", 8000), Handler)
signal.signal(signal.SIGTERM, lambda *_: exit(0))
server.serve_forever()
