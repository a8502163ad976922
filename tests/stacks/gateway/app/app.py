"""Says how it was asked."""

from flask import Flask, request

app = Flask(__name__)


@app.get("/health")
def health():
    return "fine\n"


@app.get("/")
def index():
    scheme = request.headers.get("X-Forwarded-Proto", "none")
    return f"asked for {request.host} by {scheme}\n"
