"""How calls are made: the channel, the tries of one call, what every request shares."""

import uuid
from collections.abc import Callable
from typing import Self, TypeVar

import grpc
import tenacity

from dreamsvc_client.credentials import Credentials, open_channel
from dreamsvc_client.errors import DreamsvcCallError, from_rpc_error

Request = TypeVar("Request")
Response = TypeVar("Response")
Result = TypeVar("Result")

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # After a restart of the server the next try of ours has to reach it, not a second later.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class Calls:
    """One channel to a server, and the way a call goes over it."""

    def __init__(self, target: str, timeout_s: float, attempts: int, credentials: Credentials) -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._channel = open_channel(target, credentials, CHANNEL_OPTIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def _unary(
        self,
        method: "grpc.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        *,
        timeout_s: float | None,
        attempts: int | None = None,
    ) -> Response:
        return self._retrying(lambda: method(request, timeout=timeout_s), attempts)

    def _retrying(self, call: Callable[[], Result], attempts: int | None = None) -> Result:
        def once() -> Result:
            try:
                return call()
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error

        return tenacity.Retrying(
            stop=tenacity.stop_after_attempt(attempts or self._attempts),
            wait=lambda state: backoff_s(state.attempt_number),
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, DreamsvcCallError) and error.passing),
            reraise=True,
        )(once)


def new_request_id() -> str:
    return str(uuid.uuid4())


def backoff_s(failures: int) -> float:
    """0.15, 0.3, 0.6 ... at most 2 seconds."""
    return min(2.0, 0.15 * 2 ** (failures - 1))
