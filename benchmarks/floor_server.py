"""The least that a grpc.aio server can do: one method that answers with bytes it was started with.

python -m benchmarks.floor_server METHOD ANSWER_IN_HEX
"""

import asyncio
import contextlib
import signal
import sys
from typing import Any

import grpc
import grpc.aio


async def serve(method: str, answer: bytes) -> None:
    async def echo(request: bytes, context: Any) -> bytes:
        return answer

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    _, service, name = method.split("/")
    # Without a serializer gRPC hands the bytes through.
    handlers = {name: grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(f"floor listening on 127.0.0.1:{port}", flush=True)
    await stop.wait()
    await server.stop(0)


def main() -> None:
    method, answer = sys.argv[1:]
    loop_factory = None
    # The same event loop as the service.
    with contextlib.suppress(ImportError):
        import uvloop

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve(method, bytes.fromhex(answer)))


if __name__ == "__main__":
    main()
