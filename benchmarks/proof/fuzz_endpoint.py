"""Answers of an embedding endpoint, over HTTP: usable vectors come of them, or the one error that says why not."""

import gzip
import json
import threading
from collections.abc import Sequence
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import numpy as np

from benchmarks.proof.fuzz_draws import Draws
from benchmarks.proof.fuzz_files import NUMBERS, VALUES
from benchmarks.proof.fuzz_watch import Broken, Watch
from dreamsvc.memory.embedder import EmbedderUnavailable, EmbeddingFailed
from dreamsvc.memory.embedding_endpoint import EndpointEmbedder

DIMENSION = 5


class Answer(NamedTuple):
    body: bytes
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()


class _Served(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one packet, or each answer would wait for an acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    answer = Answer(b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.answer
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None: ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who refuses an answer does not read it to its end."""


class EndpointTarget:
    name = "endpoint"
    size = 1000

    def __init__(self) -> None:
        self._served = type("Served", (_Served,), {})
        self._server = _Server(("127.0.0.1", 0), self._served)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self._url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._served.answer = Answer(_body(1, DIMENSION))
        self._embedder = self._opened()

    def _opened(self) -> EndpointEmbedder:
        return EndpointEmbedder(url=self._url, model="m", api_key_env="", timeout_s=10)

    def close(self) -> None:
        self._embedder.close()
        self._server.shutdown()
        self._server.server_close()

    def batch(self, watch: Watch, cases: int) -> None:
        draws = Draws(f"endpoint {watch.seed}")
        while watch.cases < cases:
            count = draws.choice((1, 1, 2, 3, 7))
            self._served.answer = answer = drawn(draws, count)
            with watch.case(f"{answer.status}", answer.body[:1_000_000]):
                watch.ended(self._opens() if count == 1 and draws.maybe(0.02) else self._embeds(draws, count))

    def _opens(self) -> str:
        try:
            embedder = self._opened()
        except EmbedderUnavailable:
            return "not opened"
        embedder.close()
        if embedder.dim < 1:
            raise Broken("an embedder without a dimension was opened")
        return "opened"

    def _embeds(self, draws: Draws, count: int) -> str:
        texts = [f"text {i}" for i in range(count)]
        if draws.maybe(0.1):
            texts.insert(0, "   ")
        try:
            vectors = self._embedder.embed(texts)
        except EmbeddingFailed:
            return "refused"
        lengths = np.linalg.norm(vectors, axis=1)
        if vectors.shape != (len(texts), DIMENSION) or vectors.dtype != np.float32:
            raise Broken(f"vectors of the shape {vectors.shape} came of it")
        if not (np.isclose(lengths, 1, atol=1e-3) | (lengths == 0)).all():
            raise Broken(f"vectors are {lengths} long")
        return "embedded"


@cache
def _swelling() -> bytes:
    """A megabyte that spells three hundred."""
    return gzip.compress(bytes(300 * 1024 * 1024), 1)


def _body(count: int, dimension: int) -> bytes:
    items = [
        {"index": i, "embedding": [0.5, -1.0, 2e-3, 7, 1][:dimension] + [0.25] * (dimension - 5)} for i in range(count)
    ]
    return json.dumps({"object": "list", "data": items}).encode()


def drawn(draws: Draws, count: int) -> Answer:
    good = _body(count, DIMENSION)
    text = good.decode()
    match draws.randrange(14):
        case 0:
            body = good
        case 1 | 2 | 3:
            body = draws.damaged(good, good)
        case 4:
            body = _body(draws.choice((0, 1, 2, 8, 500)), draws.choice((0, 1, 4, 5, 6, 4096)))
        case 5 | 6:
            body = text.replace("0.5", draws.choice(NUMBERS), draws.choice((1, 100))).encode()
        case 7 | 8:
            old = draws.choice(('"index": 0', "0.002", "[0.5", "2e-3", '"data"', '"embedding"', "7"))
            body = text.replace(old, draws.choice((*VALUES, *NUMBERS)), draws.choice((1, 100))).encode(
                "utf-8", "replace"
            )
        case 9:
            body = draws.choice((*VALUES, *NUMBERS, "")).encode()
        case 10:
            body = draws.randbytes(draws.randrange(200))
        case 11 if draws.maybe(0.1):
            body = draws.choice((b"[", b'{"data":')) * 100_000
        case 12 if draws.maybe(0.1):
            body = text.replace("7", "[" * 50_000 + "7", 1).encode()
        case _:
            body = text.encode(draws.choice(("utf-16", "utf-32", "utf-8-sig", "utf-8")))
    return _in_an_envelope(draws, body)


def _in_an_envelope(draws: Draws, body: bytes) -> Answer:
    """Mostly as it should be; what is tried again with a pause is seldom."""
    if draws.maybe(0.05):
        return Answer(body, draws.choice((201, 301, 400, 401, 404, 418)), [("Location", "http://127.0.0.1:1/")])
    if draws.maybe(0.0005):
        return Answer(body, draws.choice((429, 500, 503)))
    if draws.maybe(0.05):
        return Answer(gzip.compress(body, 1), 200, [("Content-Encoding", "gzip")])
    if draws.maybe(0.02):
        return Answer(
            body,
            200,
            [("Content-Encoding", draws.choice(("gzip", "deflate", "br", "x"))), ("Content-Type", "x/y;charset=z")],
        )
    if draws.maybe(0.0005):
        return Answer(_swelling(), 200, [("Content-Encoding", "gzip")])
    return Answer(body)
