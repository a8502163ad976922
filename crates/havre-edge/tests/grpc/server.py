"""A gRPC server without TLS, of bytes: prints its port, and ends at the end of its input.

`server.py [MILLISECONDS]`: connections are closed, in good order, when they are so old.

Unary:  the request, turned round; `fail` fails with INTERNAL and a header after it.
Count:  as many messages as the request says.
Echo:   each message as it comes, turned round.
Watch:  one message, then silence until the caller leaves.
Silent: nothing at all, not even a head, until the caller leaves.
"""

import sys
import threading
from concurrent import futures

import grpc


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.set_trailing_metadata((("x-after", metadata.get("x-before", "none")),))
    if request == b"fail":
        context.abort(grpc.StatusCode.INTERNAL, "as asked")
    return request[::-1]


def count(request, _context):
    for number in range(int(request)):
        yield str(number).encode() * 1000


def echo(requests, _context):
    for request in requests:
        yield request[::-1]


def watch(request, context):
    yield request
    wait_for_end(context)


def silent(_request, context):
    wait_for_end(context)
    return iter(())


def wait_for_end(context):
    ended = threading.Event()
    context.add_callback(ended.set)
    ended.wait()


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Echo": grpc.stream_stream_rpc_method_handler(echo),
    "Watch": grpc.unary_stream_rpc_method_handler(watch),
    "Silent": grpc.unary_stream_rpc_method_handler(silent),
}

OPTIONS = tuple(("grpc.max_connection_age_ms", int(age)) for age in sys.argv[1:])
server = grpc.server(futures.ThreadPoolExecutor(max_workers=200), options=OPTIONS)
server.add_generic_rpc_handlers(
    (grpc.method_handlers_generic_handler("test.Test", HANDLERS),)
)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
server.stop(None)
