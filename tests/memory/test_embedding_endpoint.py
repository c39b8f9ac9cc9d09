import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from dreamsvc.memory.embedder import Embedder, EmbedderUnavailable, EmbeddingFailed
from dreamsvc.memory.embedder_opening import open_embedder

pytest.importorskip("httpx", reason="pip install 'dreamsvc[embed]'")

from dreamsvc.memory import embedding_endpoint

TOKEN_VARIABLE = "DREAMSVC_TEST_TOKEN"
TOKEN = "sk-secret-4711"

type Item = dict[str, Any]
type Reply = Callable[["Service", list[str]], tuple[int, bytes]]


def vector_of(text: str) -> list[float]:
    return [float(len(text)), 1.0, float(sum(map(ord, text)) % 97)]


def items_of(texts: list[str]) -> list[Item]:
    return [{"object": "embedding", "index": i, "embedding": vector_of(text)} for i, text in enumerate(texts)]


def answering(change: Callable[[list[Item]], object]) -> Reply:
    """A reply of 200 whose items are changed first."""
    return lambda _service, texts: (200, json.dumps({"data": change(items_of(texts))}).encode())


def failing(status: int) -> Reply:
    return lambda _service, _texts: (status, f"your key {TOKEN} is not welcome".encode())


def hanging(service: "Service", _texts: list[str]) -> tuple[int, bytes]:
    service.closing.wait(5.0)
    return 200, b""


def hanging_up(_service: "Service", _texts: list[str]) -> tuple[int, bytes]:
    raise ConnectionAbortedError


class Service:
    """An OpenAI-compatible service that answers rightly once its scripted replies are used up."""

    def __init__(self) -> None:
        self.script: list[Reply] = []
        self.asked: list[list[str]] = []
        self.authorization: set[str | None] = set()
        self.closing = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/v1/embeddings"
                assert body["model"] == "tiny-embed"
                service.asked.append(body["input"])
                service.authorization.add(self.headers["Authorization"])
                reply = service.script.pop(0) if service.script else answering(lambda items: items)
                try:
                    status, content = reply(service, body["input"])
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

        return Handler


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(embedding_endpoint, "_FIRST_WAIT_S", 0.01)
    running = Service()
    yield running
    running.close()


def opened(service: Service, api_key_env: str = "", url: str = "", timeout_s: float = 2.0) -> Embedder:
    found = open_embedder(
        "endpoint", path="", url=url or service.url, model="tiny-embed", api_key_env=api_key_env, timeout_s=timeout_s
    )
    assert found is not None
    return found


def test_the_probe_tells_the_dimension(service: Service):
    found = opened(service)
    assert (found.id, found.dim) == ("openai:tiny-embed", 3)
    assert len(service.asked) == 1


def test_vectors_are_ordered_by_index_and_of_length_one(service: Service):
    found = opened(service)
    service.script = [answering(lambda items: items[::-1])]
    texts = ["cat", "a longer text", "睡眠"]
    wanted = np.array([vector_of(text) for text in texts])
    np.testing.assert_allclose(found.embed(texts), wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)


def test_blank_texts_are_not_sent_and_give_zeros(service: Service):
    found = opened(service)
    vectors = found.embed(["", "cat", " \n"])
    assert service.asked[1:] == [["cat"]]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [0, 1, 0], atol=1e-6)
    assert found.embed([]).shape == (0, 3)
    assert len(service.asked) == 2


def test_many_texts_go_in_requests_of_at_most_128(service: Service):
    texts = [f"text {i}" for i in range(300)]
    assert opened(service).embed(texts).shape == (300, 3)
    assert [len(asked) for asked in service.asked] == [1, 128, 128, 44]
    assert [text for asked in service.asked[1:] for text in asked] == texts


@pytest.mark.parametrize("trouble", [failing(429), failing(503), hanging_up])
def test_trouble_that_may_pass_is_asked_again(service: Service, trouble: Reply):
    found = opened(service)
    service.script = [trouble, trouble]
    assert found.embed(["cat"]).shape == (1, 3)
    assert len(service.asked) == 4


def test_three_failures_in_a_row_are_the_end(service: Service):
    found = opened(service)
    service.script = [failing(500)] * 4
    with pytest.raises(EmbeddingFailed, match="HTTP 500"):
        found.embed(["cat"])
    assert len(service.asked) == 4


@pytest.mark.parametrize("status", [301, 400, 401, 404])
def test_a_refusal_is_not_asked_again(service: Service, status: int):
    found = opened(service)
    service.script = [failing(status)]
    with pytest.raises(EmbeddingFailed, match=f"HTTP {status}"):
        found.embed(["cat"])
    assert len(service.asked) == 2


def test_a_service_that_is_too_slow_fails_after_one_timeout(service: Service):
    found = opened(service, timeout_s=0.2)
    service.script = [hanging]
    with pytest.raises(EmbeddingFailed, match="ReadTimeout"):
        found.embed(["cat"])
    assert len(service.asked) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda items: items[:-1], "answer each of them once"),
        (lambda items: [*items, items[0]], "answer each of them once"),
        (lambda items: [items[0], items[0]], "answer each of them once"),
        (lambda items: [item | {"index": [0]} for item in items], "answer each of them once"),
        (lambda items: [1, 2], "answer each of them once"),
        (lambda items: None, "no list 'data'"),
        (lambda items: [item | {"embedding": [1.0, float("nan"), 0.0]} for item in items], "not finite"),
        (lambda items: [item | {"embedding": [1.0, None, 0.0]} for item in items], "lists of numbers|not finite"),
        (lambda items: [items[0], items[1] | {"embedding": [1.0]}], "of one length"),
        (lambda items: [item | {"embedding": ["a", "b", "c"]} for item in items], "lists of numbers"),
        (lambda items: [item | {"embedding": [10**400, 0, 0]} for item in items], "lists of numbers"),
        (lambda items: [item | {"embedding": [1.0, 2.0]} for item in items], r"shape \(2, 2\), not \(2, 3\)"),
        (lambda items: [item | {"embedding": 1.0} for item in items], "shape"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(service: Service, change: Callable[[list[Item]], object], message: str):
    found = opened(service)
    service.script = [answering(change)]
    with pytest.raises(EmbeddingFailed, match=message):
        found.embed(["cat", "dog"])


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"", b"\xff", b"[" * 100_000])
def test_an_answer_that_is_no_json_object_is_refused(service: Service, content: bytes):
    found = opened(service)
    service.script = [lambda _service, _texts: (200, content)]
    with pytest.raises(EmbeddingFailed, match=r"not JSON|no object"):
        found.embed(["cat"])


def test_the_token_is_sent_and_shows_up_nowhere_else(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(TOKEN_VARIABLE, f"{TOKEN}\n")
    found = opened(service, api_key_env=TOKEN_VARIABLE)
    service.script = [failing(401)]
    with pytest.raises(EmbeddingFailed) as caught:
        found.embed(["cat"])
    assert service.authorization == {f"Bearer {TOKEN}"}
    shown = [caplog.text, str(caught.getrepr(chain=True)), repr(found), repr(vars(found))]
    assert not any(TOKEN in text for text in shown)


@pytest.mark.parametrize("token", ["", " ", "sk-secret\nX-Other: 1", "sk-sécret"])
def test_a_token_that_is_no_header_is_refused_without_being_quoted(
    service: Service, monkeypatch: pytest.MonkeyPatch, token: str
):
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    with pytest.raises(EmbedderUnavailable, match=TOKEN_VARIABLE) as caught:
        opened(service, api_key_env=TOKEN_VARIABLE)
    assert "secret" not in str(caught.value)
    assert service.asked == []


def test_a_variable_that_is_not_set_is_named(service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(EmbedderUnavailable, match=TOKEN_VARIABLE):
        opened(service, api_key_env=TOKEN_VARIABLE)


@pytest.mark.parametrize(
    "url",
    ["ftp://host/v1", "host/v1", "http://", "http://me:hunter2@host/v1", "http://host/v1?key=hunter2", "http://\0"],
)
def test_a_url_that_cannot_be_right_or_holds_a_secret_is_refused(service: Service, url: str):
    with pytest.raises(EmbedderUnavailable, match="url must look like") as caught:
        opened(service, url=url)
    assert "hunter2" not in str(caught.value)


def test_a_service_that_is_not_there_is_unavailable(service: Service):
    gone = Service()
    gone.close()
    with pytest.raises(EmbedderUnavailable, match="ConnectError"):
        opened(service, url=gone.url)


def test_threads_share_an_embedder(service: Service):
    found = opened(service)
    texts = [[f"thread {i}", "cat"] for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        for asked, vectors in zip(texts, pool.map(found.embed, texts), strict=True):
            np.testing.assert_allclose(vectors[0], found.embed([asked[0]])[0], atol=1e-7)


def test_an_embedder_that_is_closed_may_be_closed_again(service: Service):
    found = embedding_endpoint.EndpointEmbedder(url=service.url, model="tiny-embed", api_key_env="", timeout_s=1.0)
    found.close()
    found.close()
