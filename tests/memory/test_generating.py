"""Walks from a prompt: where they go, what is said of it, and what the two numbers make of them."""

import datetime
import email.message
import importlib
import inspect
import json
import os
import random
import re
import sched
import shutil
import threading
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamsvc import contract
from dreamsvc.config import InForce, defaults
from dreamsvc.errors import Disabled, InvalidFields, NotFound
from dreamsvc.memory import associations, sentences, wandering
from dreamsvc.memory.generating import Generating
from dreamsvc.memory.graph import NEVER, NewEdge, NewNode, SpaceGraph
from dreamsvc.memory.recall import Found
from dreamsvc.memory.wandering import Way, Wish, wander
from dreamsvc.v1.dream_service_pb2 import GenerateConstraints, GenerateRequest, GenerateResponse
from dreamsvc.v1.memory_pb2 import Edge, Memory

D = 16


class Embedding:
    """Gives the prompts of a test their vectors."""

    def __init__(self, vectors: dict[str, NDArray[np.float32]] | None = None) -> None:
        self.vectors = vectors or {}

    def of_query(self, space: Any, text: str) -> tuple[NDArray[np.float32] | None, str]:
        return self.vectors.get(text), ""


def generate(
    room: Any,
    prompt: str,
    *,
    embedding: Embedding | None = None,
    seed: int | None = 1,
    space: str = "default",
    **constraints: Any,
) -> GenerateResponse:
    request = GenerateRequest(
        space=space, prompt=prompt, seed=seed, constraints=GenerateConstraints(**constraints) if constraints else None
    )
    contract.fill(request)
    contract.check(request)
    return Generating(room.store, embedding or Embedding(), InForce(defaults())).generate(request)  # pyright: ignore


def test_what_is_switched_off_is_refused_and_names_the_key(room: Any) -> None:
    settings = defaults()
    settings.features.generate_enabled = False
    with pytest.raises(Disabled, match=r"\(features\.generate_enabled\)"):
        Generating(room.store, Embedding(), InForce(settings)).generate(GenerateRequest())  # pyright: ignore


def keys(room: Any, answer: GenerateResponse) -> list[str]:
    return [room.memory(step.memory_id).key for step in answer.trace]


@pytest.fixture
def chain(room: Any) -> Any:
    """a -> b -> c -> d along edges, words only; e is linked to nothing."""
    room.remember(
        Memory(key="a", text="An anchor holds the ship."),
        Memory(key="b", text="Bread is eaten there. The bakery opens early."),
        Memory(key="c", text="Clocks strike twelve."),
        Memory(key="d", text="Doves sleep."),
        Memory(key="e", text="Elms grow tall."),
        edges=[
            Edge(source="a", target="b", type="SELLS", weight=0.9),
            Edge(source="c", target="b", type="OPENS_AT", weight=0.8, confidence=0.5),
            Edge(source="c", target="d", type="WAKES", weight=0.6),
        ],
    )
    return room


# ── what comes out ──────────────────────────────────────────────────────────────


def test_a_walk_without_vectors_follows_the_edges_either_way_and_says_so(chain: Any) -> None:
    answer = generate(chain, "anchor", creativity=0, coherence=1, steps=4)
    assert keys(chain, answer) == ["a", "b", "c", "d"]
    assert [step.how for step in answer.trace] == [
        "answers the prompt",
        "SELLS edge (0.90)",
        "OPENS_AT edge (0.40)",
        "WAKES edge (0.60)",
    ]
    assert [step.link_strength for step in answer.trace] == pytest.approx([1, 0.9, 0.4, 0.6])
    assert answer.metadata.coherence_score == pytest.approx((1 + 0.9 + 0.4 + 0.6) / 4)
    assert answer.output == "An anchor holds the ship. Bread is eaten there. Clocks strike twelve. Doves sleep."


def test_it_walks_three_steps_where_there_are_three_memories_though_nothing_links_them(room: Any) -> None:
    room.remember(Memory(text="Alpha"), Memory(text="Beta", importance=0.9), Memory(text="Gamma", importance=0.1))
    answer = generate(room, "alpha", creativity=0, steps=10)
    assert answer.output == "Alpha. Beta. Gamma."
    assert [step.how for step in answer.trace] == ["answers the prompt", "nothing links it", "nothing links it"]
    assert [step.link_strength for step in answer.trace] == [1, 0, 0]


def test_a_prompt_that_nothing_answers_begins_at_an_important_memory(chain: Any) -> None:
    chain.remember(Memory(key="f", text="Foxes run.", importance=1))
    answer = generate(chain, "zeppelin", creativity=0)
    assert keys(chain, answer)[0] == "f"
    assert answer.trace[0].how == "nothing answers the prompt; one of the most important memories"
    assert answer.trace[0].link_strength == 0


@pytest.mark.parametrize(("count", "said"), [(0, "no memory"), (1, "only 1 memory"), (2, "only 2 memories")])
def test_fewer_than_three_memories_are_too_few(room: Any, count: int, said: str) -> None:
    if count:
        room.remember(*(Memory(text=f"number {i}") for i in range(count)))
    with pytest.raises(NotFound, match=f"has {said} with words"):
        generate(room, "number")


def test_forgotten_memories_and_such_without_words_are_not_walked(chain: Any) -> None:
    chain.forget("b")
    chain.remember(Memory(key="v", vector=[1, 0], importance=1))
    assert "b" not in keys(chain, generate(chain, "anchor", steps=10))
    assert "v" not in keys(chain, generate(chain, "anchor", steps=10))
    chain.forget("c", "d")
    with pytest.raises(NotFound, match="only 2 memories"):
        generate(chain, "anchor")


def test_what_was_superseded_is_walked_only_where_nothing_else_is_left(room: Any) -> None:
    room.remember(
        Memory(key="old", text="The office is in Rome."),
        Memory(key="new", text="The office is in Oslo."),
        Memory(key="ann", text="Ann works at the office."),
        Memory(key="dog", text="A dog sleeps in the office."),
        edges=[Edge(source="new", target="old", type="SUPERSEDES", weight=1)],
    )
    for seed in range(10):
        assert "old" not in keys(room, generate(room, "the office", seed=seed, creativity=1, steps=3))
    room.forget("dog")
    assert "old" in keys(room, generate(room, "the office", steps=3))


def test_a_blank_prompt_is_refused(chain: Any) -> None:
    with pytest.raises(InvalidFields, match="prompt: is blank"):
        generate(chain, " \n")


def test_it_changes_nothing(chain: Any) -> None:
    before = chain.digest(), chain.rows("SELECT id, seq, accessed_us, access_count FROM nodes")
    generate(chain, "anchor", creativity=1)
    assert (chain.digest(), chain.rows("SELECT id, seq, accessed_us, access_count FROM nodes")) == before


def test_a_seed_that_was_drawn_gives_the_same_again(chain: Any) -> None:
    drawn = generate(chain, "anchor", seed=None, creativity=0.9)
    again = generate(chain, "anchor", seed=drawn.metadata.seed, creativity=0.9)
    assert (again.output, again.dream_id, list(again.trace)) == (drawn.output, drawn.dream_id, list(drawn.trace))
    assert again.trace_id != drawn.trace_id
    assert re.fullmatch("[0-9a-f]{32}", again.trace_id)


def test_the_same_store_says_the_same_after_a_restart(chain: Any) -> None:
    before = [generate(chain, "anchor", seed=seed, creativity=1, coherence=0.2).output for seed in range(20)]
    chain.reopen(snapshot=False)
    assert before == [generate(chain, "anchor", seed=seed, creativity=1, coherence=0.2).output for seed in range(20)]
    assert len(set(before)) > 1


# ── creativity and coherence ────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def topics(rooms: Callable[[], Any]) -> Any:
    """Twelve topics of 25 memories each by their vectors, with edges inside and between them."""
    rng = np.random.default_rng(3)
    centers = rng.standard_normal((12, D))
    vectors = np.repeat(centers, 25, axis=0) + 0.7 * rng.standard_normal((300, D))
    edges = {
        (int(source), int(target)): float(weight)
        for source, target, weight in zip(*rng.integers(0, 300, (2, 900)), rng.random(900), strict=True)
        if source != target
    }
    with rooms() as room:
        room.remember(
            *(
                Memory(key=f"m{i}", text=f"Memory {i} of topic {i // 25}.", vector=vector.tolist())
                for i, vector in enumerate(vectors)
            ),
            edges=[Edge(source=f"m{s}", target=f"m{t}", weight=weight) for (s, t), weight in edges.items()],
        )
        prompts = centers + 0.7 * rng.standard_normal((12, D))
        room.embedding = Embedding({f"prompt {i}": prompt.astype(np.float32) for i, prompt in enumerate(prompts)})
        yield room


def scores(room: Any, creativity: float, coherence: float, steps: int = 5) -> tuple[list[float], list[float]]:
    answers = [
        generate(room, prompt, embedding=room.embedding, creativity=creativity, coherence=coherence, steps=steps)
        for prompt in room.embedding.vectors
    ]
    metadata = [answer.metadata for answer in answers]
    return [one.creativity_score for one in metadata], [one.coherence_score for one in metadata]


@pytest.mark.parametrize("steps", [3, 5, 20])
def test_low_creativity_and_high_coherence_score_low(topics: Any, steps: int) -> None:
    assert max(scores(topics, 0.1, 0.9, steps)[0]) < 0.3


def test_the_score_rises_with_creativity_by_what_came_out(topics: Any) -> None:
    means = [float(np.mean(scores(topics, creativity, 0.3)[0])) for creativity in (0.1, 0.4, 0.7, 1)]
    assert all(more > less + 0.05 for less, more in pairwise(means)), means


def test_coherence_takes_stronger_links(topics: Any) -> None:
    loose, strict = (float(np.mean(scores(topics, 1, coherence)[1])) for coherence in (0, 1))
    assert strict > loose + 0.2


def test_every_link_has_the_share_of_the_strongest_edge_that_coherence_asks_for(topics: Any) -> None:
    weights: dict[str, dict[str, float]] = {}
    for (source, target, _), weight in topics.edges().items():
        for one, other in ((source, target), (target, source)):
            weights.setdefault(one, {})[other] = max(weight, weights.get(one, {}).get(other, 0))
    for prompt in topics.embedding.vectors:
        answer = generate(topics, prompt, embedding=topics.embedding, creativity=1, coherence=0.8)
        walked = keys(topics, answer)
        for number, before in enumerate(walked[:-1], 1):
            edges = {key: weight for key, weight in weights[before].items() if key not in walked[:number]}
            step = answer.trace[number]
            assert step.link_strength >= 0.8 * max(edges.values(), default=0) - 1e-6
            assert (
                step.how == f"{'related edge' if 'edge' in step.how else 'near in meaning'} ({step.link_strength:.2f})"
            )
            if "edge" in step.how:
                assert step.link_strength == pytest.approx(edges[walked[number]])


def test_a_step_that_stays_near_although_a_stronger_link_leads_away_says_so(room: Any) -> None:
    room.remember(
        Memory(key="a", text="One.", vector=[1, 0, 0.1]),
        Memory(key="b", text="Two.", vector=[0.9, 0.4, 0]),
        Memory(key="c", text="Three.", vector=[0.9, -0.4, 0]),
        *(Memory(key=f"far{i}", text=f"Far {i}.", vector=[-1, 0.1 * i, 1]) for i in range(9)),
        edges=[Edge(source="a", target="far0", type="LEADS", weight=1)],
    )
    embedding = Embedding({"prompt": np.array([1, 0, 0], np.float32)})
    near = generate(room, "prompt", embedding=embedding, creativity=0, coherence=1, steps=3)
    assert keys(room, near) == ["a", "b", "c"]
    assert near.trace[1].how == "near in meaning (0.91); weaker than asked for, to stay near the prompt"
    far = generate(room, "prompt", embedding=embedding, creativity=1, coherence=1, steps=3)
    assert "LEADS edge (1.00)" in [step.how for step in far.trace]
    assert near.metadata.creativity_score < far.metadata.creativity_score


@pytest.fixture(scope="module")
def library(rooms: Callable[[], Any]) -> Any:
    """What docstrings of this machine's standard library say, linked to their module and to what they name."""
    found = {
        f"{module.__name__}.{name}": (module.__name__, inspect.getdoc(thing) or "")
        for module in (os.path, json, email.message, datetime, random, threading, zlib, shutil, sched)
        for name, thing in vars(module).items()
        if not name.startswith("_") and callable(thing)
    }
    texts = {name: text for name, (_, text) in found.items() if text} | {
        module: importlib.import_module(module).__doc__ or module for module, _ in found.values()
    }
    edges = {(name, module): 0.5 for name, (module, _) in found.items() if name in texts}
    for name, text in texts.items():
        named = {other for other in texts if other != name and re.search(rf"\b{other.rpartition('.')[2]}\(", text)}
        edges |= {(name, other): 0.8 for other in named}
    with rooms() as room:
        room.remember(
            *(Memory(key=name, title=name, text=text) for name, text in texts.items()),
            edges=[Edge(source=source, target=target, weight=weight) for (source, target), weight in edges.items()],
        )
        yield room


def test_on_real_texts_low_creativity_scores_low_and_more_scores_more(library: Any) -> None:
    prompts = ["how do I join paths", "parse json", "an email message", "dates and time zones", "threads and locks"]
    low, high = (
        [
            generate(library, prompt, seed=seed, creativity=creativity, coherence=coherence).metadata.creativity_score
            for prompt in prompts
            for seed in range(3)
        ]
        for creativity, coherence in ((0.1, 0.9), (0.9, 0.3))
    )
    assert max(low) < 0.3
    assert np.mean(high) > np.mean(low) + 0.2


# ── the walk by hand ────────────────────────────────────────────────────────────


def graph(vectors: NDArray[np.float32] | None = None, count: int = 6) -> SpaceGraph:
    made = SpaceGraph()
    made.add_nodes([NewNode(i + 1, True, "note", "", f"word{i}", [], 0.5, 1, NEVER, NEVER) for i in range(count)])
    if vectors is not None:
        made.set_vectors([i + 1 for i in range(len(vectors))], vectors)
    return made


def found(node: int, score: float = 1.0) -> Found:
    return Found(node, score, score, 0, 0, 0, 0)


def wish(vector: NDArray[np.float32] | None = None, seed: int = 1, creativity: float = 0.0, steps: int = 3) -> Wish:
    return Wish(vector, seed, creativity, 0.0, steps)


def test_of_several_edges_between_two_memories_the_strongest_living_one_counts() -> None:
    made = graph()
    made.add_edges(
        [
            NewEdge(1, 1, 2, 0.9, 0.5, True, type=7),
            NewEdge(2, 2, 1, 0.6, 1.0, True, type=8),
            NewEdge(3, 1, 2, 1.0, 1.0, True, type=9),
            NewEdge(4, 1, 3, 0.0, 1.0, True, type=9),
        ]
    )
    made.set_edges([3], [1.0], [False])
    for view in (made.view, made.view._replace(adjacency=made.rebuild().adjacency)):
        assert associations.edges_of(view, 0) == {1: associations.Edge(pytest.approx(0.6), 8)}
        assert associations.edges_of(view, 1) == {0: associations.Edge(pytest.approx(0.6), 8)}


def test_an_edge_younger_than_the_view_is_not_there_yet() -> None:
    made = graph()
    view = made.view
    made.add_edges([NewEdge(1, 1, 2, 0.9, 1.0, True)])
    assert associations.edges_of(view, 0) == {}
    assert list(associations.edges_of(made.view, 0)) == [1]


def test_of_a_large_space_an_even_part_is_compared_that_the_seed_chooses() -> None:
    view = graph(np.eye(6, 4, dtype=np.float32) + 0.1).view
    parts = [set(range(6)[associations.part_of(view, seed, most=3)]) for seed in range(4)]
    assert parts == [{0, 2, 4}, {1, 3, 5}, {0, 2, 4}, {1, 3, 5}]
    assert set(range(6)[associations.part_of(view, 5)]) == set(range(6))
    assert range(0)[associations.part_of(graph().view, 5)] == range(0)


def test_what_says_the_same_as_a_walked_memory_gives_way() -> None:
    vectors = np.array([[1, 0, 0], [1, 0.01, 0], [0.8, 0.6, 0], [0.75, 0, 0.66], [0, 1, 0]], np.float32)
    view = graph(vectors, 5).view
    unit = np.array([1, 0, 0], np.float32)
    walked = wander(view, [found(1)], wish(unit), str)
    assert [step.node for step in walked.steps] == [1, 3, 4]
    walked = wander(view, [found(1)], wish(unit, steps=9), str)
    assert sorted(step.node for step in walked.steps) == [1, 2, 3, 4, 5]
    assert [step.node for step in walked.steps][-1] == 2


def test_a_walk_over_what_is_nearest_travels_not_at_all() -> None:
    angles = np.linspace(0, np.pi, 9)
    view = graph(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32), 9).view
    unit = np.array([1, 0], np.float32)
    hits = [found(i + 1, 1 - i / 10) for i in range(9)]
    straight = wander(view, hits, wish(unit), str)
    assert [step.node for step in straight.steps] == [1, 2, 3]
    assert straight.creativity == pytest.approx(0, abs=1e-6)
    assert [step.way for step in straight.steps] == [Way.PROMPT, Way.MEANING, Way.MEANING]
    assert [step.strength for step in straight.steps] == pytest.approx([1, np.cos(np.pi / 8), np.cos(np.pi / 8)])
    assert not any(step.weak for step in straight.steps)


def test_a_walk_that_wanders_off_is_as_creative_as_it_is_far_and_unlikely() -> None:
    angles = np.linspace(0, np.pi, 9)
    view = graph(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32), 9).view
    hits = [found(1), found(8, 0.1), found(9, 0.1)]
    # Anything may be reached, and no chance: distance is liked, and strength.
    walked = wander(view, hits, wish(np.array([1, 0], np.float32), creativity=1e-9), str)
    assert [step.node for step in walked.steps] == [1, 2, 3]
    cosines = np.clip(np.cos(angles), 0, 1)
    near, far = cosines[:3].mean(), cosines.mean()
    for seed in range(20):
        free = wander(view, hits, wish(np.array([1, 0], np.float32), seed, creativity=1), str)
        places = [step.node - 1 for step in free.steps]
        travelled = float(np.clip((near - cosines[places].mean()) / (near - far), 0, 1))
        unlikely = 2 * free.creativity - travelled
        assert min(abs(unlikely - share / 3) for share in range(4)) < 1e-6


def test_the_noise_belongs_to_seed_step_and_memory() -> None:
    nodes = np.arange(1, 20_001)
    noise = wandering.gumbel(2**64 - 1, 3, nodes)
    np.testing.assert_array_equal(wandering.gumbel(2**64 - 1, 3, nodes[::-1]), noise[::-1])
    assert np.mean(noise) == pytest.approx(0.5772, abs=0.03)
    assert np.std(noise) == pytest.approx(np.pi / 6**0.5, abs=0.03)
    for other in (wandering.gumbel(2**64 - 1, 4, nodes), wandering.gumbel(0, 3, nodes)):
        assert abs(np.corrcoef(noise, other)[0, 1]) < 0.03


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_walk_never_comes_back_and_is_as_long_as_there_are_memories(data: st.DataObject) -> None:
    count = data.draw(st.integers(3, 12))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    made = graph(rng.standard_normal((data.draw(st.integers(0, count)), 4)).astype(np.float32), count)
    edges = data.draw(st.lists(st.tuples(st.integers(1, count), st.integers(1, count), st.floats(0, 1)), max_size=20))
    made.add_edges([NewEdge(i + 1, s, t, w, 1.0, True) for i, (s, t, w) in enumerate(edges)])
    hits = data.draw(st.lists(st.integers(1, count), unique=True, max_size=5))
    vector = rng.standard_normal(4).astype(np.float32) if data.draw(st.booleans()) and made.view.dense.size else None
    wanted = Wish(
        None if vector is None else vector / np.linalg.norm(vector),
        data.draw(st.integers(0, 2**64 - 1)),
        data.draw(st.floats(0, 1)),
        data.draw(st.floats(0, 1)),
        data.draw(st.integers(3, 15)),
    )
    prompted = [found(node, 1 / (i + 1)) for i, node in enumerate(hits)]
    walked = wander(made.view, prompted, wanted, lambda node: "")
    assert walked == wander(made.view, prompted, wanted, lambda node: "")
    nodes = [step.node for step in walked.steps]
    assert len(set(nodes)) == len(nodes) >= 3
    assert len(nodes) <= wanted.steps
    assert 0 <= walked.creativity <= 1
    assert all(0 <= step.strength <= 1 for step in walked.steps)
    assert nodes == [
        step.node
        for step in wander(
            made.view, [found(n, 1 / (i + 1)) for i, n in enumerate(hits)], wanted, lambda node: ""
        ).steps
    ]


# ── sentences ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One here. Two there! Three?", ["One here.", "Two there!", "Three?"]),
        ('He said "No." She left.', ['He said "No."', "She left."]),
        ("See e.g. this one. Then go.", ["See e.g. this one.", "Then go."]),
        ("join(a, b)\nJoin two\nor more paths.\n\nended", ["join(a, b)", "Join two or more paths.", "ended"]),
        ("これは本。あれは犬。", ["これは本。", "あれは犬。"]),
        ("  ...  ", []),
    ],
)
def test_texts_fall_into_sentences(text: str, expected: list[str]) -> None:
    assert sentences.split(text) == expected


def test_the_sentence_is_taken_that_shares_most_with_what_is_wanted() -> None:
    text = "The sail is red. The boat of the harbour is old. It rains."
    assert sentences.fitting("", text, sentences.words_in("old boat"), ()) == "The boat of the harbour is old."
    assert sentences.fitting("", text, sentences.words_in("zebra"), ()) == "The sail is red."
    assert sentences.fitting("", text, (), {"The sail is red."}) == "The boat of the harbour is old."
    assert sentences.fitting("A title", " ", (), ()) == "A title"
    assert sentences.fitting("", "", (), ()) == ""
    long = sentences.fitting("", "word " * 500, (), ())
    assert len(long) <= sentences.LONGEST
    assert long.endswith("word…")


def test_a_low_creativity_answers_the_prompt_and_a_high_one_what_was_said_before(room: Any) -> None:
    room.remember(
        Memory(key="a", text="The prompt is about rivers."),
        Memory(key="b", text="Candles burn in every window."),
        Memory(key="c", text="Rivers freeze in winter. Every window has candles now."),
        edges=[Edge(source="a", target="b", weight=1), Edge(source="b", target="c", weight=1)],
    )
    last = {
        creativity: generate(room, "prompt rivers", seed=seed, creativity=creativity, coherence=1).trace[2].content
        for creativity in (0.49, 0.5)
        for seed in range(40)
        if keys(room, generate(room, "prompt rivers", seed=seed, creativity=creativity, coherence=1)) == ["a", "b", "c"]
    }
    assert last == {0.49: "Rivers freeze in winter.", 0.5: "Every window has candles now."}
