"""Containers as they are stored and as they are read: one computing, two forms (REQ-DREAM-007).

A container has the mean of its facets' unit vectors in int8, and each facet's vector as a code of a few bits against
it, see `facet_codes`. Its title and text are extracts; the facets keep their own, word for word.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np

from dreamsvc.dreamer.consolidation import Cluster, cohesion_of
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.summaries import SOURCES, Source, text_of, title_of
from dreamsvc.dreamer.v1.operations_pb2 import Container
from dreamsvc.facet_codes import Bits, decode_centroid, encode_centroid, encode_facets
from dreamsvc.two_stage import Block
from dreamsvc.v1.config_pb2 import ConsolidationConfig

# Built in a step: about 3 ms.
BUILT = 4


class Built(NamedTuple):
    """A cluster as a container."""

    cluster: Cluster
    message: Container  # what is staged
    block: Block  # what is read


def build(memories: Memories, cluster: Cluster, number: int, config: ConsolidationConfig) -> Built:
    """The container of a cluster, with the mean and the codes of its facets; number: counts from 1 within a dream."""
    vectors = memories.vectors[cluster.rows]
    bits = cast("Bits", config.facet_bits)
    centroid = encode_centroid(vectors.mean(axis=0))
    middle = decode_centroid(centroid)
    facets = encode_facets(vectors, middle, bits=bits)
    sources = _sources(memories, cluster, vectors @ middle)
    message = Container(
        number=number,
        stage=cluster.stage,
        title=title_of(sources),
        text=text_of(sources),
        centroid=centroid.codes.tobytes(),
        centroid_scale=float(centroid.scale),
        bits=bits,
        members=memories.node_ids[cluster.rows].tolist(),
        codes=facets.codes.tobytes(),
        scales=facets.scales.astype("<f2").tobytes(),
        replaces=memories.node_ids[cluster.replaces].tolist(),
        cohesion=cohesion_of(vectors),
    )
    return Built(cluster, message, Block(cluster.rows.astype(np.int32), facets, bits, centroid))


def build_all(
    memories: Memories, clusters: Sequence[Cluster], config: ConsolidationConfig, *, first: int = 1
) -> Search[list[Built]]:
    """The containers of those clusters that become one, numbered from `first` on in their order."""
    wanted = [cluster for cluster in clusters if cluster.is_container]
    built: list[Built] = []
    for number, cluster in enumerate(wanted, first):
        built.append(build(memories, cluster, number, config))
        if len(built) % BUILT == 0:
            yield Step("containers", len(built), len(wanted))
    return built


def _sources(memories: Memories, cluster: Cluster, centralities: np.ndarray) -> list[Source]:
    """The most central members, in the order of their rows; no text of any other is read."""
    central = np.sort(np.argsort(-centralities, kind="stable")[:SOURCES])
    return [
        Source(memories.titles[row], memories.texts[row], centrality)
        for row, centrality in zip(cluster.rows[central].tolist(), centralities[central].tolist(), strict=True)
    ]
