"""The Gemini client against a local stand-in that checks what it is sent."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.text.gemini import (
    GeminiRefused,
    GeminiRewriter,
    parse_answer,
    GeminiUnavailable,
)

LONG = "Il vit la mer immense, et la mer immense le vit aussi, puis la nuit tomba sur eux deux."


class Stub:
    """Answers each request with the next of `answers`: a status, or parts for each sentence."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.requests.append((self.path, self.headers["x-goog-api-key"], body))
                answer = stub.answers.pop(0)
                status = answer if isinstance(answer, int) else 200
                text = json.dumps(answer)
                reply = {"candidates": [{"content": {"parts": [{"text": text}]}}]}
                self.send_response(status)
                if status == 429:
                    self.send_header("Retry-After", "3")
                self.end_headers()
                self.wfile.write(json.dumps(reply).encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def rewriter(stub, waits=None):
    sleep = waits.append if waits is not None else lambda _: None
    return GeminiRewriter("a-key", stub.url, "a-model", sleep=sleep)


def test_asks_about_long_sentences_only():
    with Stub([["Il vit la mer.", "La mer le vit."]]) as stub:
        short, long = rewriter(stub).rewrite(["Il vint.", LONG], 10)
    assert short.method == "kept"
    assert long.method == "gemini"
    assert long.parts == ["Il vit la mer.", "La mer le vit."]
    path, key, body = stub.requests[0]
    assert path == "/v1beta/models/a-model:generateContent"
    assert key == "a-key"
    prompt = body["contents"][0]["parts"][0]["text"]
    assert "la mer immense" in prompt and "10 mots" in prompt and "Il vint." not in prompt


def test_tries_again_after_as_long_as_it_is_told():
    waits = []
    with Stub(429, 503, [["Un.", "Deux."]]) as stub:
        [answer] = rewriter(stub, waits).rewrite([LONG], 10)
    assert answer.parts == ["Un.", "Deux."]
    assert waits == [3.0, 2.0]


def test_uses_rules_when_no_answer_is_usable():
    with Stub(["not a list"], [], 500, 500) as stub:
        [answer] = rewriter(stub).rewrite([LONG], 10)
    assert answer.method == "rules"
    assert len(answer.parts) > 1


def test_uses_rules_when_nobody_listens():
    stub = Stub()
    stub.server.server_close()
    [answer] = rewriter(stub).rewrite([LONG], 10)
    assert answer.method == "rules"


def test_a_refused_key_is_an_error():
    with Stub(403) as stub, pytest.raises(GeminiRefused, match="403"):
        rewriter(stub).rewrite([LONG], 10)
    assert len(stub.requests) == 1


def test_long_lists_are_asked_in_pieces():
    piece = [["Un.", "Deux."]] * 10
    with Stub(piece, piece, piece[:5]) as stub:
        answers = rewriter(stub).rewrite([LONG] * 25, 10)
    assert len(stub.requests) == 3
    assert all(answer.method == "gemini" for answer in answers)


@pytest.mark.parametrize("text", ["[]", "{}", "[[]]", '[[""]]', '[["a"],["b"]]', '["a"]', "no"])
def test_answers_of_another_shape(text):
    reply = {"candidates": [{"content": {"parts": [{"text": text}]}}]}
    with pytest.raises(GeminiUnavailable):
        parse_answer(json.dumps(reply).encode(), 1)
