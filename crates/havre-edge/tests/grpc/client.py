"""A gRPC client over TLS: `client.py PORT CA SCENARIO`; says what it sees, a line for each thing."""

import queue
import sys
from concurrent import futures

import grpc

PORT, CA, SCENARIO = sys.argv[1:]
DEADLINE = 60


def say(*words):
    print(*words, flush=True)


def calls(channel):
    unary = channel.unary_unary("/test.Test/Unary")
    answer, call = unary.with_call(
        b"abc", metadata=(("x-before", "1"),), timeout=DEADLINE
    )
    say("unary", answer.decode(), dict(call.trailing_metadata())["x-after"])
    large = b"x" * 3_000_000
    say("large", unary(large, timeout=DEADLINE) == large)
    try:
        unary(b"fail", timeout=DEADLINE)
    except grpc.RpcError as error:
        say("failed", error.code().name, error.details())
    try:
        channel.unary_unary("/test.Test/Nothing")(b"", timeout=DEADLINE)
    except grpc.RpcError as error:
        say("missing", error.code().name)
    count = channel.unary_stream("/test.Test/Count")
    say("count", sum(1 for _ in count(b"500", timeout=DEADLINE)))


def bidirectional(channel):
    sent = queue.Queue()
    answers = channel.stream_stream("/test.Test/Echo")(
        iter(sent.get, None), timeout=DEADLINE
    )
    # Each message is sent when the answer to the one before is here.
    for number in range(100):
        sent.put(f"<{number}".encode())
        if next(answers).decode() != f"<{number}"[::-1]:
            say("wrong answer", number)
    sent.put(None)
    say("bidirectional", list(answers), answers.code().name)


def together(channel):
    echoes = []
    for number in range(150):
        sent = queue.Queue()
        sent.put(str(number).encode())
        stub = channel.stream_stream("/test.Test/Echo")
        echoes.append((sent, stub(iter(sent.get, None), timeout=DEADLINE), number))
    right = sum(next(answers) == str(number).encode()[::-1] for _, answers, number in echoes)
    say("together", right)
    for sent, answers, _ in echoes:
        sent.put(None)
        list(answers)


def steady(channel):
    unary = channel.unary_unary("/test.Test/Unary")

    def calls(_):
        return sum(unary(b"abc", timeout=DEADLINE) == b"cba" for _ in range(300))

    with futures.ThreadPoolExecutor(max_workers=4) as pool:
        say("steady", sum(pool.map(calls, range(4))))


def watched(channel, method):
    answers = channel.unary_stream(f"/test.Test/{method}")(b"first", timeout=DEADLINE)
    if method == "Watch":
        say(next(answers).decode())
    else:
        say("waiting")
    try:
        list(answers)
    except grpc.RpcError as error:
        say("ended", error.code().name, error.details())


SCENARIOS = {
    "calls": calls,
    "bidirectional": bidirectional,
    "together": together,
    "steady": steady,
    "watch": lambda channel: watched(channel, "Watch"),
    "silent": lambda channel: watched(channel, "Silent"),
}

with open(CA, "rb") as file:
    credentials = grpc.ssl_channel_credentials(root_certificates=file.read())
OPTIONS = (
    ("grpc.ssl_target_name_override", "app.test"),
    ("grpc.default_authority", "app.test"),
    ("grpc.enable_retries", 0),
)
with grpc.secure_channel(f"127.0.0.1:{PORT}", credentials, OPTIONS) as channel:
    SCENARIOS[SCENARIO](channel)
