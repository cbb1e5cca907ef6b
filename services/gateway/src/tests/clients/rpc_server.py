"""A service of gRPC, by the library that people use; prints its port, then serves."""
import sys
import threading
from concurrent import futures

import grpc

cancelled = threading.Event()


def unary(request, context):
    seen = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", "begun"),))
    context.set_trailing_metadata((("x-asked-bin", seen.get("x-ask-bin", b"")), ("x-last", "done")))
    return request


def both(requests, context):
    for request in requests:
        yield request


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: ä%")


def never(request, context):
    context.add_callback(cancelled.set)
    cancelled.wait(60)
    return b""


def was_cancelled(request, context):
    seen = cancelled.wait(20)
    cancelled.clear()
    return b"yes" if seen else b"no"


def count(request, context):
    for n in range(int(request)):
        yield b"%d" % n


handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Never": grpc.unary_unary_rpc_method_handler(never),
    "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
    "Count": grpc.unary_stream_rpc_method_handler(count),
}
server = grpc.server(futures.ThreadPoolExecutor(max_workers=24))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
print(server.add_insecure_port(sys.argv[1] + ":0"), flush=True)
server.start()
server.wait_for_termination()
