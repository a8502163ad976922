"""A gRPC server without TLS on port 50051, of bytes: answers with the release it is of."""

import os
import signal
import threading
from concurrent import futures

import grpc

RELEASE = os.environ["RELEASE"].encode()


def unary(request, _context):
    return RELEASE + b" " + request


def count(request, _context):
    for number in range(int(request)):
        yield RELEASE + b" " + str(number).encode()


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Count": grpc.unary_stream_rpc_method_handler(count),
}

told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
server = grpc.server(futures.ThreadPoolExecutor(max_workers=20))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", HANDLERS),))
server.add_insecure_port("0.0.0.0:50051")
server.start()
told.wait()
server.stop(5).wait()
