"""Asks a service of gRPC for all that such a service does: ADDRESS NAME [CA]."""
import queue
import sys

import grpc

address, name = sys.argv[1:3]
options = [("grpc.default_authority", name)]
if len(sys.argv) > 3:
    with open(sys.argv[3], "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options.append(("grpc.ssl_target_name_override", name))
    channel = grpc.secure_channel(address, credentials, options)
else:
    channel = grpc.insecure_channel(address, options)

unary = channel.unary_unary("/echo.Echo/Unary")
binary = bytes(range(256))
answer, call = unary.with_call(b"hello", metadata=(("x-ask-bin", binary),), timeout=20)
assert answer == b"hello", answer
assert ("x-initial", "begun") in call.initial_metadata(), call.initial_metadata()
trailing = dict(call.trailing_metadata())
assert trailing["x-asked-bin"] == binary and trailing["x-last"] == "done", trailing

large = b"\xa5" * (3 << 20)
assert unary(large, timeout=20) == large

# Each message is answered before the next is sent.
sent = queue.Queue()
answers = channel.stream_stream("/echo.Echo/Both")(iter(sent.get, None), timeout=20)
for n in range(50):
    sent.put(b"message %d" % n)
    assert next(answers) == b"message %d" % n
sent.put(None)
assert list(answers) == []
assert answers.code() == grpc.StatusCode.OK

counted = channel.unary_stream("/echo.Echo/Count")(b"2000", timeout=20)
assert [int(n) for n in counted] == list(range(2000))


def fails(code, *call, **options):
    try:
        channel.unary_unary(*call)(b"", **options)
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        return error.details()
    raise AssertionError(call)


said = fails(grpc.StatusCode.FAILED_PRECONDITION, "/echo.Echo/Fail", timeout=20)
assert said == "not today: ä%", said
fails(grpc.StatusCode.UNIMPLEMENTED, "/echo.Echo/Nothing", timeout=20)
# A client that waits no longer is known to the service.
fails(grpc.StatusCode.DEADLINE_EXCEEDED, "/echo.Echo/Never", timeout=0.5)
assert channel.unary_unary("/echo.Echo/WasCancelled")(b"", timeout=30) == b"yes"

many = [unary.future(b"%d" % n, timeout=30) for n in range(300)]
assert [call.result() for call in many] == [b"%d" % n for n in range(300)]
print("good")
