"""What a night has merged so far, and how the memory would be read with it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.consolidation import Cluster
from dreamsvc.dreamer.containers import Built
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.reading_index import index_of
from dreamsvc.dreamer.redundancy import CopyGroup
from dreamsvc.dreamer.v1.operations_pb2 import Container, Operations
from dreamsvc.facet_codes import Bits, Centroid, FacetCodes
from dreamsvc.two_stage import Block, Index
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_UNSPECIFIED

# Groups or containers that are read in one go: some milliseconds, since a wake waits for them.
PIECE = 100


class Merged(NamedTuple):
    """Never changed: a gate looks at what would be beside what is."""

    memories: Memories
    groups: list[CopyGroup]  # copies and what stands for them, in the order in which they were folded
    blocks: dict[int, Block]  # new containers, by their number within the dream
    replaced: frozenset[int]  # rows of containers that new ones took up

    @staticmethod
    def of(memories: Memories, staged: Sequence[Operations]) -> Search["Merged"]:
        """What earlier steps of an interrupted dream told."""
        groups: list[CopyGroup] = []
        blocks: dict[int, Block] = {}
        replaced: set[int] = set()
        for number, part in enumerate(staged):
            step = Step("told before", number, len(staged))
            for place, one in enumerate(part.eliminations.eliminations):
                if place % PIECE == 0:
                    yield step
                rows = _rows(memories, [one.survivor, *one.copies])
                groups.append(CopyGroup(rows[0], rows[1:], list(one.cosines)))
            for place, container in enumerate(part.containers.containers):
                if place % PIECE == 0:
                    yield step
                blocks[container.number] = _block(memories, container)
                replaced.update(_rows(memories, container.replaces))
        return Merged(memories, groups, blocks, frozenset(replaced))

    def with_groups(self, groups: Sequence[CopyGroup]) -> "Merged":
        return self._replace(groups=[*self.groups, *groups])

    def with_clusters(self, clusters: Iterable[Cluster], built: Iterable[Built]) -> "Merged":
        new = {one.message.number: one.block for one in built}
        taken = (row for cluster in clusters for row in cluster.replaces.tolist())
        return self._replace(blocks=self.blocks | new, replaced=self.replaced.union(taken))

    @property
    def next_number(self) -> int:
        """For the next memory that the dream makes."""
        return 1 + max(self.blocks, default=0)

    @property
    def gone(self) -> NDArray[np.bool_]:
        """Rows that another stands for, [n]."""
        gone = np.zeros(len(self.memories.node_ids), np.bool_)
        gone[np.fromiter((row for group in self.groups for row in group.copies), np.int64)] = True
        return gone

    def stands_for(self) -> NDArray[np.int32]:
        """For each row the one that is read instead of it, [n]; a survivor that folds into another leads to that."""
        stands = np.arange(len(self.memories.node_ids), dtype=np.int32)
        for group in self.groups:
            stands[group.copies] = group.survivor
        while not np.array_equal(further := stands[stands], stands):
            stands = further
        return stands

    def index_after(self) -> Search[Index]:
        """The memory as it would be read; containers that are not stored yet have rows past the end."""
        memories, gone = self.memories, self.gone
        n = len(memories.node_ids)
        alone = memories.findable & memories.embedded & (memories.roles == MEMORY_ROLE_UNSPECIFIED) & ~gone
        for block in self.blocks.values():
            alone[block.rows] = False
        kept = {row: block for row, block in memories.containers.items() if row not in self.replaced}
        blocks = dict(_without(kept, gone)) | {n + place: block for place, block in enumerate(self.blocks.values())}
        return index_of(memories, alone, blocks, n + len(self.blocks))


def _without(blocks: Mapping[int, Block], gone: NDArray[np.bool_]) -> Iterable[tuple[int, Block]]:
    for row, block in blocks.items():
        lost = block.rows[gone[block.rows]]
        yield row, block.without(lost.tolist()) if len(lost) else block


def _rows(memories: Memories, ids: Sequence[int]) -> list[int]:
    return cast("list[int]", np.searchsorted(memories.node_ids, np.asarray(ids, np.int64)).tolist())


def _block(memories: Memories, container: Container) -> Block:
    """A container as it was told."""
    codes = np.frombuffer(container.codes, np.uint8).reshape(len(container.members), -1)
    scales = np.frombuffer(container.scales, "<f2").astype(np.float16)
    centroid = Centroid(np.frombuffer(container.centroid, np.int8), np.float32(container.centroid_scale))
    rows = np.asarray(_rows(memories, container.members), np.int32)
    return Block(rows, FacetCodes(codes, scales), cast("Bits", container.bits), centroid)
