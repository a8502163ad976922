"""Shows the seed by each name of the vault."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen


class Front(BaseHTTPRequestHandler):
    def do_GET(self):
        names = ("vault", "safe")
        seeds = {urlopen(f"http://{name}:9000/seed").read() for name in names}
        body = b"seed " + b"/".join(seeds)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", 8000), Front).serve_forever()
