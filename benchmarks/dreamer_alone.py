"""The process that dreams without a service before it, for benchmarks that speak to it over its seam."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

import grpc

from benchmarks.serving import ServerFailed

START_S = 60.0
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.min_reconnect_backoff_ms", 100),
]


class DreamerAlone:
    """A dreamer of its own and the channel to it."""

    def __init__(self, socket: Path) -> None:
        """socket: where it is to listen, absent. Raises ServerFailed."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dreamsvc", "dreamer", "--socket", str(socket)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "0"},
        )
        self.channel = grpc.insecure_channel(f"unix:{socket}", options=_OPTIONS)
        try:
            grpc.channel_ready_future(self.channel).result(START_S)
        except grpc.FutureTimeoutError as error:
            self.process.kill()
            raise ServerFailed(f"the dreamer was not there within {START_S:g} s") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.channel.close()
        assert self.process.stdin is not None
        # It ends when this does.
        self.process.stdin.close()
        self.process.wait(START_S)
