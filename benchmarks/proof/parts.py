"""Parts of a dream's journal, of every kind, as a dreamer writes them: for tests and proofs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dreamsvc.dreamer.v1.operations_pb2 import (
    Container,
    Containers,
    EdgeDetail,
    EdgeWeights,
    Elimination,
    Eliminations,
    Expansion,
    Expansions,
    FoundBlindSpot,
    FoundBlindSpots,
    NewEdges,
    NewMemories,
    NewMemory,
    Operations,
    Positions,
    ReplayMarks,
    Walk,
    Walks,
)
from dreamsvc.facet_codes import Bits, decode_centroid, encode_centroid, encode_facets
from dreamsvc.v1.dream_pb2 import MERGE_STAGE_TOPIC
from dreamsvc.v1.memory_pb2 import EDGE_ORIGIN_SYSTEM_INFERRED


def weights(part: int, edges: Mapping[int, float], pruned: Sequence[int] = ()) -> Operations:
    return Operations(
        part=part,
        edge_weights=EdgeWeights(
            edge_ids=list(edges), weights=list(edges.values()), pruned=[edge in pruned for edge in edges]
        ),
    )


def marks(part: int, counts: Mapping[int, int]) -> Operations:
    return Operations(part=part, replay_marks=ReplayMarks(node_ids=list(counts), counts=list(counts.values())))


def eliminations(part: int, *groups: tuple[int, Sequence[int]]) -> Operations:
    """Survivors with their copies."""
    told = [Elimination(survivor=s, copies=copies, cosines=[0.97] * len(copies)) for s, copies in groups]
    return Operations(part=part, eliminations=Eliminations(eliminations=told))


def container(
    number: int, members: Mapping[int, Sequence[float]], *, bits: Bits = 4, replaces: Sequence[int] = (), **more: Any
) -> Container:
    """As a dream builds it from the vectors of its members."""
    rows = sorted(members)
    vectors = np.array([members[row] for row in rows], np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    centroid = encode_centroid(vectors.mean(axis=0))
    facets = encode_facets(vectors, decode_centroid(centroid), bits=bits)
    return Container(
        number=number,
        stage=MERGE_STAGE_TOPIC,
        centroid=centroid.codes.tobytes(),
        centroid_scale=float(centroid.scale),
        bits=bits,
        members=rows,
        codes=facets.codes.tobytes(),
        scales=facets.scales.astype("<f2").tobytes(),
        replaces=replaces,
        **({"title": f"container {number}", "text": "of several", "cohesion": 0.5} | more),
    )


def containers(part: int, *held: Container) -> Operations:
    return Operations(part=part, containers=Containers(containers=held))


def new_memories(part: int, *made: NewMemory) -> Operations:
    return Operations(part=part, new_memories=NewMemories(memories=made))


def new_edges(part: int, *made: tuple[int, int, str, float], detail: EdgeDetail | None = None) -> Operations:
    """By source, target, type and weight; an end below 0 is the memory of that number."""
    sources, targets, types, weights = zip(*made, strict=True) if made else ((), (), (), ())
    count = len(made)
    return Operations(
        part=part,
        new_edges=NewEdges(
            sources=sources,
            targets=targets,
            types=types,
            weights=weights,
            confidences=[0.5] * count,
            origins=[EDGE_ORIGIN_SYSTEM_INFERRED] * count,
            details=[detail or EdgeDetail()] * count,
        ),
    )


def expansion(node: int, words: Mapping[str, float], peers: Mapping[int, float], length: float = 1.25) -> Expansion:
    return Expansion(
        node=node,
        words=list(words),
        gains=list(words.values()),
        peers=list(peers),
        shares=list(peers.values()),
        length=length,
    )


def expansions(part: int, *found: Expansion) -> Operations:
    return Operations(part=part, expansions=Expansions(expansions=found))


def positions(part: int, points: Mapping[int, Sequence[float]]) -> Operations:
    """Points of one dimension by row id."""
    flat = [value for point in points.values() for value in point]
    dimension = len(next(iter(points.values()), ()))
    return Operations(part=part, positions=Positions(node_ids=list(points), dimension=dimension, points=flat))


def blind_spots(part: int, *pairs: tuple[int, int, bool]) -> Operations:
    """Source, target and whether it is verified, numbered from 1."""
    found = [
        FoundBlindSpot(
            number=number,
            source=source,
            target=target,
            verified=verified,
            semantic_distance=0.75,
            causal_overlap=0.25,
            confidence=0.5,
            evidence=["both lead there"],
            meeting=[target],
            walk=[0.0, 0.0, 0.25, 0.25],
            dimension=2,
        )
        for number, (source, target, verified) in enumerate(pairs, 1)
    ]
    return Operations(part=part, blind_spots=FoundBlindSpots(blind_spots=found))


def walks(part: int, *origins: int) -> Operations:
    told = [Walk(origin=origin, points=[0.0, 0.0, 0.25, 0.5]) for origin in origins]
    return Operations(part=part, walks=Walks(dimension=2, walks=told))
