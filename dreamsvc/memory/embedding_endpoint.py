"""Vectors from an OpenAI-compatible HTTP service: POST {url}/embeddings.

The bearer token is read once from the environment and kept in the client's headers alone. What the service answers to
an error stays out of our messages too: some services repeat the token there.
"""

import json
import os
import weakref
from collections.abc import Sequence
from typing import Any, cast

import httpx
import numpy as np
from numpy.typing import NDArray
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from dreamsvc.memory.embedder import EmbedderUnavailable, EmbeddingFailed, filled_slices, unit_rows

_TEXTS_A_REQUEST = 128
_ATTEMPTS = 3
_FIRST_WAIT_S = 0.25  # then twice that
_PROBE = "memory"
# Eight times what 128 vectors of 4,096 numbers take. Decompressed: a few kilobytes may spell gigabytes.
_MOST_BYTES = 96 * 1024 * 1024

# The request did not arrive, or the connection broke. A service that is slow to answer (ReadTimeout) is not asked
# again: the caller has waited timeout_s already, and the service is probably still at work on the first request.
_CONNECTION_ERRORS = (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError)


class EndpointEmbedder:
    """A remote embedder; `dim` is learnt from its answer to a probe."""

    def __init__(self, *, url: str, model: str, api_key_env: str, timeout_s: float) -> None:
        """Connect and ask for one vector. Raises EmbedderUnavailable."""
        self.id = f"openai:{model}"
        self._model = model
        self._client = httpx.Client(
            base_url=_base_url(url), headers=_authorization(api_key_env), timeout=httpx.Timeout(timeout_s)
        )
        # An embedder that nobody holds any more leaves no open sockets behind.
        self._close = weakref.finalize(self, self._client.close)
        try:
            self.dim = int(self._ask([_PROBE], None).shape[1])
        except EmbeddingFailed as exc:
            self._close()
            raise EmbedderUnavailable(f"the embedding endpoint {url} failed its probe: {exc}") from exc

    def close(self) -> None:
        """Close the connections; may be called twice."""
        self._close()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Embedder.embed`. Up to 3 attempts for each 128 texts, each of at most `timeout_s` between bytes."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for rows, fit in filled_slices(texts, _TEXTS_A_REQUEST):
            vectors[rows] = self._ask(fit, self.dim)
        return vectors

    def _ask(self, texts: list[str], dim: int | None) -> NDArray[np.float32]:
        """Unit vectors (n, dim) of 1 to 128 texts; `dim` None takes any width. Raises EmbeddingFailed."""
        try:
            answer = _retrying()(self._post, texts)
        except httpx.HTTPStatusError as exc:
            raise EmbeddingFailed(f"the embedding endpoint answered HTTP {exc.response.status_code}") from exc
        except httpx.HTTPError as exc:
            raise EmbeddingFailed(f"the embedding endpoint gave no answer: {type(exc).__name__}") from exc
        try:
            content: object = json.loads(answer)
        except (ValueError, RecursionError) as exc:
            raise EmbeddingFailed("the embedding endpoint answered something that is not JSON") from exc
        return unit_rows(_vectors(content, len(texts), dim))

    def _post(self, texts: list[str]) -> bytes:
        with self._client.stream("POST", "embeddings", json={"model": self._model, "input": texts}) as response:
            # Redirects are errors too: following one would hand the token to another host.
            return _read(response.raise_for_status())


def _read(response: httpx.Response) -> bytes:
    answer = bytearray()
    for chunk in response.iter_bytes():
        answer += chunk
        if len(answer) > _MOST_BYTES:
            raise EmbeddingFailed(f"the embedding endpoint answered more than {_MOST_BYTES} bytes")
    return bytes(answer)


def _retrying() -> Retrying:
    return Retrying(
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(multiplier=_FIRST_WAIT_S),
        retry=retry_if_exception(_may_pass),
        reraise=True,
    )


def _may_pass(exc: BaseException) -> bool:
    """Whether asking again may help."""
    if isinstance(exc, httpx.HTTPStatusError):
        return exc.response.status_code == 429 or exc.response.status_code >= 500
    return isinstance(exc, _CONNECTION_ERRORS)


def _base_url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    # A message may quote the URL, so there must be no secret in it.
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query:
        raise EmbedderUnavailable(
            "the embedding endpoint's url must look like https://host/v1, without user, password or query; "
            "mend: name the variable that holds the token in api_key_env"
        )
    return parsed


def _authorization(api_key_env: str) -> dict[str, str]:
    if not api_key_env:
        return {}
    key = os.environ.get(api_key_env, "").strip()
    # Anything else would fail later as an illegal header, in a message that quotes it.
    if not key or not key.isascii() or not key.isprintable():
        raise EmbedderUnavailable(f"the environment variable {api_key_env} holds no usable token; mend: set it")
    return {"Authorization": f"Bearer {key}"}


def _vectors(content: object, count: int, dim: int | None) -> NDArray[np.float64]:
    """The vectors (count, dim) in a response's JSON, in the order of the texts. Raises EmbeddingFailed."""
    if not isinstance(content, dict):
        raise EmbeddingFailed("the embedding endpoint's answer is no object")
    items = cast("dict[str, Any]", content).get("data")
    if not isinstance(items, list):
        raise EmbeddingFailed("the embedding endpoint's answer has no list 'data'")
    found: dict[int, object] = {}
    for item in cast("list[Any]", items):
        if isinstance(item, dict) and isinstance(index := cast("dict[str, Any]", item).get("index"), int):
            found[index] = cast("dict[str, Any]", item).get("embedding")
    if len(cast("list[Any]", items)) != count or found.keys() != set(range(count)):
        raise EmbeddingFailed(f"the embedding endpoint was given {count} texts and did not answer each of them once")
    try:
        vectors = np.array([found[i] for i in range(count)], np.float64)
    except (TypeError, ValueError, OverflowError) as exc:
        raise EmbeddingFailed("the embedding endpoint's vectors are not lists of numbers of one length") from exc
    if vectors.ndim != 2 or vectors.shape[1] != (dim or vectors.shape[1]) or vectors.shape[1] == 0:
        raise EmbeddingFailed(f"the embedding endpoint's vectors have the shape {vectors.shape}, not ({count}, {dim})")
    return vectors
