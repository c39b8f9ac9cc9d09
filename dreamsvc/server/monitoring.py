"""The door of those who run the service: /metrics, /healthz and /readyz over plain HTTP, on a port of its own.

So little HTTP that it needs no library: one GET a connection, everything else is refused. It is off unless a port is
configured, and then listens on loopback unless told otherwise.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from dreamsvc.errors import invalid

logger = logging.getLogger(__name__)
# Scrapers and probes of one service are few; whoever opens more waits.
MOST_AT_ONCE = 16
# For the request to come, and for the answer to be taken.
PATIENCE_S = 5.0
MOST_HEAD_BYTES = 8192
TEXT = "text/plain; charset=utf-8"
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str = TEXT


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class MonitoringDoor:
    """Listens from `start` on until `stop`."""

    def __init__(
        self,
        host: str,
        port: int,
        scrape: Callable[[str], Awaitable[tuple[bytes, str]]],
        ready: Callable[[], str],
    ) -> None:
        """scrape: the metrics and their content type for an Accept header. ready: why the service is not, or ''."""
        self._host = host
        self._port = port
        self._scrape = scrape
        self._ready = ready
        self._server: asyncio.Server | None = None
        self._turn = asyncio.Semaphore(MOST_AT_ONCE)
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """The port; raises InvalidFields where it is taken."""
        try:
            self._server = await asyncio.start_server(self._take, self._host, self._port, limit=MOST_HEAD_BYTES)
        except OSError as error:
            what = f"is {self._port}; cannot listen there on {self._host}: {error.strerror or error}"
            raise invalid("telemetry.metrics_port", what) from error
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for task in list(self._answering):
                task.cancel()
            await self._server.wait_closed()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._turn:
                answer = await self._answer(reader)
                async with asyncio.timeout(PATIENCE_S):
                    writer.write(_written(answer))
                    await writer.drain()
        except (OSError, TimeoutError):
            logger.debug("whoever asked for metrics or health went away", exc_info=True)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        try:
            async with asyncio.timeout(PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
            return await self._of(*_read(head))
        except _Refused as error:
            status = error.status
        except TimeoutError:
            status = 408
        except asyncio.LimitOverrunError:
            status = 431
        except asyncio.IncompleteReadError:
            status = 400
        except Exception:
            logger.exception("metrics could not be read")
            status = 500
        return Answer(status, f"{_REASONS[status].lower()}\n".encode())

    async def _of(self, path: str, accept: str) -> Answer:
        match path:
            case "/metrics":
                body, content_type = await self._scrape(accept)
                return Answer(200, body, content_type)
            case "/healthz":
                return Answer(200, b"ok\n")
            case "/readyz":
                why_not = self._ready()
                return Answer(503, f"{why_not}\n".encode()) if why_not else Answer(200, b"ready\n")
            case _:
                raise _Refused(404)


def _read(head: bytes) -> tuple[str, str]:
    """The path without its query, and the Accept header; raises _Refused."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Refused(400)
    if words[0] != "GET":
        raise _Refused(405)
    headers = (line.partition(":") for line in lines)
    accept = next((value.strip() for name, _, value in headers if name.lower() == "accept"), "")
    return words[1].partition("?")[0], accept


def _written(answer: Answer) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Connection: close",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        *(["Allow: GET"] if answer.status == 405 else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + answer.body
