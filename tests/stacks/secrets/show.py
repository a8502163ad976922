"""Shows what it was given."""

import json
import os
import socket
import stat
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FILES = ["/run/secrets/password", "/run/tokens/api", "/etc/motd", "/app/rules.ini"]


def writes(path):
    try:
        Path(path).write_text("x")
    except OSError:
        return False
    return True


def given():
    files = {
        name: [
            Path(name).read_text().strip(),
            oct(stat.S_IMODE(os.stat(name).st_mode)),
            os.stat(name).st_uid,
        ]
        for name in FILES
    }
    return {
        "files": files,
        "environment": {n: os.environ.get(n) for n in ("MODE", "GREETING", "QUOTED")},
        "host": [socket.gethostname(), socket.gethostbyname("upstream.example")],
        "writes": [writes("/scratch/x"), writes("/app/x")],
    }


class Show(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(given()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", 8000), Show).serve_forever()
