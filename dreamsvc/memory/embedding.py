"""Vectors for texts: made in the background for what is stored, at once for what is asked."""

import logging
import threading

import numpy as np
from numpy.typing import NDArray

from dreamsvc import clock, errors
from dreamsvc.errors import DreamsvcError
from dreamsvc.memory.embedder import Embedder, EmbedderUnavailable, EmbeddingFailed
from dreamsvc.memory.embedder_opening import open_embedder
from dreamsvc.memory.spaces import CLIENT, Space
from dreamsvc.memory.store import Store
from dreamsvc.v1.config_pb2 import EmbedderConfig

logger = logging.getLogger(__name__)
BATCH = 64
RETRY_S = 30.0
OPEN_AFTER_S = 0.2
# So many refused texts in a row mean that it is not the texts.
MOST_REFUSED = 3
# Time for others after a batch, as a multiple of what the batch took.
REST = 0.5


class TextEmbedding:
    """Owns the embedder and the thread that works off texts without a vector."""

    def __init__(self, store: Store, config: EmbedderConfig) -> None:
        self._store = store
        self._config = config
        self._embedder: Embedder | None = None
        self.notice = "the embedder is being opened" if config.kind != "none" else "no embedder is configured"
        # It is there, or it is known that it is not.
        self.opened = config.kind == "none"
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="embedding", daemon=True)

    @property
    def id(self) -> str:
        return self._embedder.id if self._embedder is not None else "none"

    def start(self) -> None:
        if self._config.kind != "none":
            self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """Says that texts may wait for vectors."""
        self._wanted.set()

    def of_query(self, space: Space, text: str) -> tuple[NDArray[np.float32] | None, str]:
        """The vector of a query, or None and why it is found by words only."""
        embedder = self._embedder
        if space.embedder == CLIENT:
            return (
                None,
                "the vectors of this space come from its clients: send one with the query, or it is by words only",
            )
        if embedder is None:
            return None, f"found by words only: {self.notice}"
        if not space.dimension:
            return None, "found by words only: no memory of this space has a vector yet"
        if space.embedder != embedder.id:
            return None, f"found by words only: the space was embedded by {space.embedder}, not by {embedder.id}"
        try:
            vector = embedder.embed([text])[0]
        except EmbeddingFailed as error:
            return None, f"found by words only: {error}"
        return (vector, "") if vector.any() else (None, "found by words only: the query has no word that is known")

    def _work(self) -> None:
        # Reading tables and tokenizers keeps a processor busy for a moment; those who wait for the start come first.
        if self._closing.wait(OPEN_AFTER_S):
            return
        found = self._open()
        self.opened = True
        if not found:
            return
        while True:
            # In this order, as `close` sets the two in the other: the last wake is never missed.
            self._wanted.clear()
            if self._closing.is_set():
                return
            try:
                for name in self._store.space_names():
                    self._catch_up(name)
                self.notice = ""
            except EmbeddingFailed as error:
                self.notice = str(error)
                logger.warning("texts wait for vectors: %s; trying again in %g s", error, RETRY_S)
                self._closing.wait(RETRY_S)
                continue
            except Exception as error:
                # Whatever it is, the thread goes on and the status says so; a silent end would look like health.
                self.notice = error.message if isinstance(error, DreamsvcError) else errors.told(error)
                logger.exception("texts wait for vectors; trying again in %g s", RETRY_S)
                self._closing.wait(RETRY_S)
                continue
            self._wanted.wait()

    def _open(self) -> bool:
        config = self._config
        try:
            self._embedder = open_embedder(
                config.kind,
                path=config.path,
                url=config.url,
                model=config.model,
                api_key_env=config.api_key_env,
                timeout_s=config.timeout_seconds,
            )
        except EmbedderUnavailable as error:
            self.notice = str(error)
            logger.warning("no embedder: %s", error)
            return False
        if self._embedder is None:
            self.notice = "no embedder is installed; pip install 'dreamsvc[embed]' brings one"
            return False
        self.notice = ""
        return True

    def _catch_up(self, name: str) -> None:
        """Embeds what waits in one space, oldest first."""
        embedder = self._embedder
        space = self._store.space(name)
        if embedder is None or space.embedder not in ("", embedder.id):
            return
        after = 0
        while not self._closing.is_set():
            waiting = self._store.waiting_for_vectors(space, after, BATCH)
            if not waiting:
                return
            began = clock.precise_s()
            vectors = _embedded(embedder, [entry.text for entry in waiting])
            made = {entry.node: vectors[i] for i, entry in enumerate(waiting)}
            texts = {entry.node: entry.text for entry in waiting}
            self._store.put_vectors(space, embedder.id, embedder.dim, made, texts).result()
            after = waiting[-1].node
            self._closing.wait((clock.precise_s() - began) * REST)


def _embedded(embedder: Embedder, texts: list[str]) -> NDArray[np.float32]:
    """Vectors of texts; one text that the embedder cannot take gets none and does not stand in the way of others.

    Raises EmbeddingFailed where it takes none of them: then it is the embedder that is in trouble.
    """
    try:
        return embedder.embed(texts)
    except EmbeddingFailed:
        if len(texts) == 1:
            raise
    vectors = np.zeros((len(texts), embedder.dim), np.float32)
    refused: list[EmbeddingFailed] = []
    for i, text in enumerate(texts):
        try:
            vectors[i] = embedder.embed([text])[0]
        except EmbeddingFailed as error:
            refused.append(error)
            if len(refused) == i + 1 >= MOST_REFUSED:
                break
    if len(refused) == len(texts) or (len(refused) == MOST_REFUSED and not vectors.any()):
        raise refused[0]
    logger.warning("%d texts cannot be embedded and are found by words only: %s", len(refused), refused[0])
    return vectors
