"""Calls over one connection until its input ends: `grpc-client.py CA`; says what came of them."""

import collections
import sys
import threading
import time

import grpc

with open(sys.argv[1], "rb") as file:
    credentials = grpc.ssl_channel_credentials(root_certificates=file.read())
OPTIONS = (
    ("grpc.ssl_target_name_override", "shop.localhost"),
    ("grpc.default_authority", "shop.localhost"),
    ("grpc.enable_retries", 0),
)
seen = collections.Counter()
over = threading.Event()


def calls(channel):
    unary = channel.unary_unary("/test.Test/Unary")
    count = channel.unary_stream("/test.Test/Count")
    while not over.is_set():
        try:
            release, rest = unary(b"abc", timeout=60).split(b" ", 1)
            assert rest == b"abc", rest
            numbers = [answer.split(b" ")[1] for answer in count(b"20", timeout=60)]
            assert numbers == [str(number).encode() for number in range(20)], numbers
            seen[release.decode()] += 1
        except grpc.RpcError as error:
            seen[f"failed {error.code().name} {error.details()}"] += 1
        except AssertionError as error:
            seen[f"failed wrong {error}"] += 1
        time.sleep(0.02)


with grpc.secure_channel("127.0.0.1:443", credentials, OPTIONS) as channel:
    threads = [threading.Thread(target=calls, args=(channel,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
for what, times in sorted(seen.items()):
    print(times, what)
