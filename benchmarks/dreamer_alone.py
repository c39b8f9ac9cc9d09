"""The process that dreams without a service before it, for benchmarks that speak to it over its seam."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

import grpc

from benchmarks.serving import ServerFailed
from dreamsvc.dream.dreamers import CHANNEL_OPTIONS

START_S = 60.0


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
        self.channel = grpc.insecure_channel(f"unix:{socket}", options=CHANNEL_OPTIONS)
        try:
            grpc.channel_ready_future(self.channel).result(START_S)
        except grpc.FutureTimeoutError as error:
            self.process.kill()
            self.process.wait()
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
