"""Vectors for texts, made behind everybody's back."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dreamsvc import two_stage
from dreamsvc.config import defaults
from dreamsvc.errors import StoreUnavailable
from dreamsvc.memory import embedding
from dreamsvc.memory.embedder import EmbedderUnavailable, EmbeddingFailed
from dreamsvc.memory.embedding import TextEmbedding
from dreamsvc.v1.memory_pb2 import Memory


class Letters:
    """One dimension for each of three letters; a text without any has no vector."""

    id = "letters-3"
    dim = 3

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.failing = False
        self.poison = ""
        self.during: Callable[[], None] = lambda: None

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append(list(texts))
        self.during()
        if self.failing or any(self.poison and self.poison in text for text in texts):
            raise EmbeddingFailed("no answer")
        counts = np.array([[text.count(letter) for letter in "abc"] for text in texts], np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.asked for text in batch]


class Worker:
    def __init__(self, room: Any, letters: Letters) -> None:
        self.room, self.letters = room, letters
        config = defaults().embedder
        config.kind = "auto"
        self.embedding = TextEmbedding(room.store, config)

    def settle(self, space: str = "default") -> Any:
        """Waits until nothing is left to embed."""
        self.embedding.wake()
        return self.until(lambda: self.room.store.stats(space).to_embed == 0) and self.room.store.stats(space)

    @staticmethod
    def until(reached: Callable[[], bool]) -> bool:
        pause = threading.Event()
        for _ in range(2000):
            if reached():
                return True
            pause.wait(0.003)
        raise AssertionError("it never came to that")


@pytest.fixture
def worker(room: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    letters = Letters()
    monkeypatch.setattr(embedding, "open_embedder", lambda kind, **_: letters)
    monkeypatch.setattr(embedding, "RETRY_S", 0.02)
    monkeypatch.setattr(embedding, "BATCH", 4)
    made = Worker(room, letters)
    yield made
    made.embedding.close()


def vector(worker: Worker, key: str) -> list[float]:
    return [round(value, 2) for value in worker.room.get(key).memory.vector]


def test_texts_get_vectors_in_the_background(worker: Worker) -> None:
    worker.room.remember(*(Memory(key=f"k{i}", text="a" * i + "b") for i in range(10)))
    worker.embedding.start()
    stats = worker.settle()
    assert (stats.vectors, stats.dimension, stats.embedder) == (10, 3, "letters-3")
    assert vector(worker, "k0") == [0, 1, 0]
    assert max(len(batch) for batch in worker.letters.asked) == 4
    space = worker.room.store.space("default")
    query, notice = worker.embedding.of_query(space, "b")
    assert (notice, worker.embedding.notice, worker.embedding.id) == ("", "", "letters-3")
    assert worker.room.find(vector=query, limit=1)[0].node == worker.room.row_of("k0")


def test_title_and_text_are_embedded_together(worker: Worker) -> None:
    worker.room.remember(Memory(key="k", title="a", text="b"), Memory(key="t", title="c"))
    worker.embedding.start()
    worker.settle()
    assert worker.letters.texts == ["a\nb", "c"]


def test_a_new_text_is_embedded_anew_and_the_same_one_is_not(worker: Worker) -> None:
    worker.room.remember(Memory(key="k", text="a"), Memory(key="other", text="b"))
    worker.embedding.start()
    worker.settle()
    worker.room.remember(Memory(key="k", text="c"))
    worker.settle()
    assert vector(worker, "k") == [0, 0, 1]
    assert worker.letters.texts == ["a", "b", "c"]


def test_a_text_without_a_vector_is_asked_for_once(worker: Worker) -> None:
    worker.room.remember(Memory(key="none", text="xyz"), Memory(key="some", text="a"))
    worker.embedding.start()
    worker.settle()
    for i in range(3):
        worker.room.remember(Memory(key=f"more {i}", text="b"))
        worker.settle()
    assert worker.letters.texts.count("xyz") == 1
    assert (vector(worker, "none"), worker.room.store.stats("default").vectors) == ([], 4)
    assert worker.room.row_of("none") not in [hit.node for hit in worker.room.find(vector=[1, 0, 0])]
    worker.room.reopen(snapshot=False)
    assert worker.room.store.graph("default").view.dense.slots[0] == two_stage.NO_SLOT


def test_a_text_that_cannot_be_embedded_stands_in_the_way_of_no_other(worker: Worker) -> None:
    worker.letters.poison = "venom"
    worker.room.remember(Memory(key="bad", text="a venom"), *(Memory(key=f"k{i}", text="a") for i in range(6)))
    worker.embedding.start()
    stats = worker.settle()
    assert stats.vectors == 6
    assert vector(worker, "bad") == []
    assert worker.embedding.notice == ""


def test_a_failure_is_told_tried_again_and_then_told_no_more(worker: Worker) -> None:
    worker.letters.failing = True
    worker.room.remember(Memory(key="k", text="a"))
    worker.embedding.start()
    worker.until(lambda: len(worker.letters.asked) >= 2)
    assert worker.embedding.notice == "no answer"
    assert vector(worker, "k") == []
    worker.letters.failing = False
    worker.settle()
    assert vector(worker, "k") == [1, 0, 0]
    worker.until(lambda: worker.embedding.notice == "")


def test_a_store_that_refuses_is_tried_again(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refusals = worker.room.store.put_vectors, [1, 2]

    def put(*args: Any) -> Any:
        if refusals:
            refusals.pop()
            raise StoreUnavailable("full")
        return real(*args)

    monkeypatch.setattr(worker.room.store, "put_vectors", put)
    worker.room.remember(Memory(key="k", text="a"))
    worker.embedding.start()
    worker.settle()
    assert refusals == []
    assert vector(worker, "k") == [1, 0, 0]


def test_a_space_of_client_vectors_is_never_touched(worker: Worker) -> None:
    worker.room.remember(Memory(key="k", text="a", vector=[5, 5]), Memory(key="bare", text="b"), space="clients")
    worker.room.remember(Memory(key="k", text="a"))
    worker.embedding.start()
    worker.settle()
    stats = worker.room.store.stats("clients")
    assert (stats.embedder, stats.dimension, stats.vectors) == ("client", 2, 1)
    assert list(worker.room.get("bare", space="clients").memory.vector) == []
    found, notice = worker.embedding.of_query(worker.room.store.space("clients"), "a")
    assert found is None
    assert "come from its clients" in notice


def test_a_text_that_changes_while_it_is_embedded_keeps_no_stale_vector(worker: Worker) -> None:
    worker.room.remember(Memory(key="k", text="a"), Memory(key="gone", text="b"), Memory(key="sent", text="c"))

    def meanwhile() -> None:
        worker.letters.during = lambda: None
        worker.room.remember(Memory(key="k", text="c"))
        worker.room.forget("gone")

    worker.letters.during = meanwhile
    worker.embedding.start()
    worker.until(lambda: len(worker.letters.asked) >= 1)
    worker.settle()
    assert vector(worker, "k") == [0, 0, 1]
    worker.room.restore("gone")
    worker.settle()
    assert vector(worker, "gone") == [0, 1, 0]
    live, fresh = worker.room.store.graph("default").view, worker.room.fresh().view
    everything = np.arange(live.n)
    np.testing.assert_array_equal(*(two_stage.vectors_of(view.dense, everything) for view in (live, fresh)))
    np.testing.assert_array_equal(live.dense.slots[everything] >= 0, fresh.dense.slots[everything] >= 0)


def test_client_vectors_that_come_first_win_over_the_worker(worker: Worker) -> None:
    worker.room.remember(Memory(key="k", text="a"))

    def meanwhile() -> None:
        worker.letters.during = lambda: None
        worker.room.remember(Memory(key="sent", text="b", vector=[1, 1]))

    worker.letters.during = meanwhile
    worker.embedding.start()
    worker.until(lambda: worker.room.store.stats("default").embedder == "client")
    worker.embedding.close()
    stats = worker.room.store.stats("default")
    assert (stats.embedder, stats.dimension, stats.vectors) == ("client", 2, 1)
    assert vector(worker, "k") == []


def test_every_space_is_worked_off(worker: Worker) -> None:
    for space in ("default", "one", "two"):
        worker.room.remember(Memory(key="k", text="a"), space=space)
    worker.embedding.start()
    for space in ("default", "one", "two"):
        assert worker.settle(space).vectors == 1


def test_closing_never_waits_for_a_wake_that_does_not_come(worker: Worker) -> None:
    for _ in range(30):
        one = TextEmbedding(worker.room.store, worker.embedding._config)
        one.start()
        closer = threading.Thread(target=one.close)
        closer.start()
        closer.join(5)
        assert not closer.is_alive()


def test_closing_does_not_wait_for_a_retry(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "RETRY_S", 3600.0)
    worker.letters.failing = True
    worker.room.remember(Memory(key="k", text="a"))
    worker.embedding.start()
    worker.until(lambda: worker.embedding.notice == "no answer")
    worker.embedding.close()
    assert not worker.embedding._thread.is_alive()


def test_without_an_embedder_queries_go_by_words_and_say_why(
    room: Any, monkeypatch: pytest.MonkeyPatch, worker: Worker
) -> None:
    config = defaults().embedder
    config.kind = "none"
    none = TextEmbedding(room.store, config)
    none.start()
    assert none.of_query(room.store.space("default"), "a") == (
        None,
        "found by words only: no embedder is configured",
    )
    assert none.id == "none"
    none.close()

    def broken(kind: str, **_: Any) -> Any:
        raise EmbedderUnavailable("the model is gone")

    monkeypatch.setattr(embedding, "open_embedder", broken)
    config.kind = "auto"
    one = TextEmbedding(room.store, config)
    one.start()
    Worker.until(lambda: one.notice == "the model is gone")
    assert one.of_query(room.store.space("default"), "a")[1] == "found by words only: the model is gone"
    one.close()


def test_a_query_says_why_it_goes_by_words(worker: Worker) -> None:
    worker.room.remember(Memory(key="k", text="a"))
    space = worker.room.store.space("default")
    assert "being opened" in worker.embedding.of_query(space, "a")[1]
    worker.embedding.start()
    worker.until(lambda: worker.embedding.id == "letters-3")
    assert "no memory of this space has a vector yet" in worker.embedding.of_query(space, "a")[1]
    worker.settle()
    space = worker.room.store.space("default")
    assert "no word that is known" in worker.embedding.of_query(space, "xyz")[1]
    assert "embedded by other" in worker.embedding.of_query(space._replace(embedder="other"), "a")[1]
    worker.letters.failing = True
    assert "no answer" in worker.embedding.of_query(space, "a")[1]
