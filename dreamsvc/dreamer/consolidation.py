"""Which memories a night puts into containers, and which of them are one facet there (REQ-DREAM-007).

Two stages work on units: memories that stand for themselves, and containers of earlier nights, which take part whole.
The conservative stage makes tight clusters; the topic stage goes on from there towards the target ratio. Both ask the
evidence before two groups become one, so a favourite colour that is purple and one that is cyan never share a
container, however near their vectors are. Nothing here changes a memory: a plan is what could be done, and the gate
may drop clusters of it before anything is written.

n: rows. m: members, the rows that take part. U: units. D: numbers in a vector.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.clusters import TightPlan, TopicPlan, tight_clusters, topic_clusters
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import GATHERED, Edges, Guard, Rows, Search, Step, Vectors, gathered, grouped, let_go
from dreamsvc.dreamer.readings import Readings
from dreamsvc.dreamer.refusals import Refusals
from dreamsvc.dreamer.superseding import SUPERSEDES
from dreamsvc.evidence import change, conflict
from dreamsvc.v1.config_pb2 import ConsolidationConfig, QualityConfig
from dreamsvc.v1.dream_pb2 import MERGE_STAGE_CONSERVATIVE, MERGE_STAGE_TOPIC, MergeStage, Merging
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER, MEMORY_ROLE_FOLDED

type Flags = NDArray[np.bool_]

# Cosine from which two members of a topic are near enough to be taken for one another, so that what tells them apart
# keeps them apart. Farther pairs differ in many words, of which any could be a number.
NEAR = 0.85
# At the cap of 10 one round makes at most 10 to 1; the second and third gather what the first left alone.
ROUNDS = 3
EDGE_BONUS = 1.0
NEAREST = 12
# Pairs whose texts are compared in a night, 0.1 to 0.4 ms each; near pairs beyond stay apart unread.
COMPARISONS = 50_000
# Words of texts that are compared in a step: about 4 ms.
COMPARED_WORDS = 600
# Clusters looked through for copies in a step.
LOOKED_THROUGH = 64


class Fold(NamedTuple):
    """Members of one container that say the same; the survivor stands for its copies."""

    survivor: int
    copies: tuple[int, ...]  # ascending
    cosines: tuple[float, ...]  # of each copy and the survivor


class Tight(NamedTuple):
    """What the conservative stage put together, also where a topic took it up."""

    units: int
    members: int
    cohesion: float


class Cluster(NamedTuple):
    """What is to become one container, or one memory where all of it folds into that."""

    stage: MergeStage.ValueType
    rows: Rows  # facets, ascending, copies not among them
    replaces: Rows  # containers of earlier nights that are taken up whole, ascending
    folds: tuple[Fold, ...]
    units: int  # active memories whose place it takes
    tight: tuple[Tight, ...]
    cohesion: float  # mean cosine over all pairs of members, copies among them

    @property
    def is_container(self) -> bool:
        """False where one memory is left that stands for itself."""
        return len(self.rows) > 1 or len(self.replaces) > 0

    @property
    def members(self) -> int:
        return len(self.rows) + sum(len(fold.copies) for fold in self.folds)


class Plan(NamedTuple):
    """What a night could put together."""

    clusters: tuple[Cluster, ...]  # in the order of their first rows
    active: int  # memories before, without those eliminated earlier in this dream
    left_out: dict[MergeStage.ValueType, int]  # members that the evidence kept out of every cluster, by stage
    dropped: dict[MergeStage.ValueType, int]  # clusters that the gate dropped

    def without(self, places: Collection[int]) -> "Plan":
        """The same less the clusters at these places."""
        dropped = dict(self.dropped)
        for place in places:
            stage = self.clusters[place].stage
            dropped[stage] = dropped.get(stage, 0) + 1
        kept = tuple(cluster for place, cluster in enumerate(self.clusters) if place not in places)
        return self._replace(clusters=kept, dropped=dropped)

    def merging(self) -> list[Merging]:
        """What each stage did, the conservative one first; a stage that did nothing at all is left out."""
        tight = [group for cluster in self.clusters for group in cluster.tight]
        topics = [cluster for cluster in self.clusters if cluster.stage == MERGE_STAGE_TOPIC]
        between = self.active - sum(group.units - 1 for group in tight)
        after = self.active - sum(cluster.units - 1 for cluster in self.clusters)
        conservative = Merging(
            stage=MERGE_STAGE_CONSERVATIVE,
            containers=len(tight),
            members=sum(group.members for group in tight),
            nodes_before=self.active,
            nodes_after=between,
            mean_cohesion=_mean([group.cohesion for group in tight]),
        )
        topic = Merging(
            stage=MERGE_STAGE_TOPIC,
            containers=len(topics),
            members=sum(cluster.members for cluster in topics),
            nodes_before=between,
            nodes_after=after,
            mean_cohesion=_mean([cluster.cohesion for cluster in topics]),
        )
        for merging in (conservative, topic):
            merging.dropped = self.dropped.get(merging.stage, 0)
            merging.left_out = self.left_out.get(merging.stage, 0)
        return [one for one in (conservative, topic) if one.containers or one.dropped or one.left_out]


def plan(
    memories: Memories,
    readings: Readings,
    gone: Flags,
    config: ConsolidationConfig,
    quality: QualityConfig,
    min_active: int,
    refusals: Refusals,
    *,
    seed: int,
) -> Search[Plan]:
    """What could become containers; nothing where fewer than `min_active` memories are active.

    gone: [n], rows that were eliminated earlier in this dream. What the evidence keeps apart is added to `refusals`,
    each pair once.
    """
    active = int(np.count_nonzero(memories.active & ~gone))
    nothing = Plan(clusters=(), active=active, left_out={}, dropped={})
    taking = _taking_part(memories, gone)
    if active < min_active or len(taking.rows) < 2:
        return nothing
    vectors = yield from gathered(memories.vectors, taking.rows)
    edges = yield from _contracted(memories, taking)
    evidence = _Evidence(memories, readings, taking.rows, vectors, refusals, mix_kinds=config.mix_kinds)
    tight: list[Rows] = []
    left_out: dict[MergeStage.ValueType, int] = {}
    if config.enabled:
        limits = TightPlan(config.coupling_threshold, config.merge_similarity, config.max_cluster_size)
        tight = yield from tight_clusters(vectors, taking.unit, edges, evidence.guard(-1.0), limits)
        left_out[MERGE_STAGE_CONSERVATIVE] = evidence.left_out(_inside(taking, tight))
        yield Step("communities", 1, 1)
    groups = tight
    if config.topics and quality.target_compression_ratio > 1:
        target = _target(memories, taking, active, quality.target_compression_ratio)
        groups = yield from _topics(memories, vectors, taking, tight, edges, evidence, config, target, seed)
        left_out[MERGE_STAGE_TOPIC] = evidence.left_out(_inside(taking, groups))
        yield Step("folding", 0, len(groups))
    clusters = yield from _clusters(memories, vectors, taking, tight, groups, evidence, config)
    yield from evidence.forget()
    return nothing._replace(clusters=tuple(clusters), left_out=left_out)


# ── who takes part ──────────────────────────────────────────────────────────────


class _Taking(NamedTuple):
    """The rows that take part, and the units that they are of."""

    rows: Rows  # [m], ascending
    unit: Rows  # [m], 0 .. U - 1
    owners: Rows  # [U], row of the memory or of its container, ascending
    unit_of: Rows  # [n], the unit that a row or what it was merged into belongs to, -1 for none


def _taking_part(memories: Memories, gone: Flags) -> _Taking:
    n = len(memories.node_ids)
    owner = memories.owners().astype(np.int64)
    there = memories.findable & ~gone
    bound = memories.untouchable | memories.apart | gone
    # A container is left as it is if any of its facets is, or if it is itself.
    fixed = ~memories.active | bound
    fixed[owner[there & (bound | ~memories.embedded)]] = True
    rows = np.flatnonzero(there & ~fixed[owner])
    owners, unit = np.unique(owner[rows], return_inverse=True)
    place = np.full(n, -1)
    place[owners] = np.arange(len(owners))
    return _Taking(rows, unit, owners, place[owner])


def _target(memories: Memories, taking: _Taking, active: int, ratio: float) -> int:
    """Units to aim at, so that all active memories together are as many as what they stand for / ratio.

    What they stand for is facets and copies too: a memory that was compressed last night is not compressed again.
    """
    stands = memories.findable | (memories.roles == MEMORY_ROLE_FOLDED)
    represented = int(np.count_nonzero(stands & memories.active[memories.owners()]))
    return max(1, round(represented / ratio) - (active - len(taking.owners)))


def _inside(taking: _Taking, groups: list[Rows]) -> Flags:
    """The members that are in one of these groups of units, [m]."""
    grouped_units = np.zeros(len(taking.owners), np.bool_)
    if groups:
        grouped_units[np.concatenate(groups)] = True
    return grouped_units[taking.unit]


def _contracted(memories: Memories, taking: _Taking) -> Search[Edges]:
    """The living edges between units that say that two belong together; "supersedes" does not."""
    against = _type_of(memories, SUPERSEDES)
    sources: list[Rows] = [np.zeros(0, np.int64)]
    targets: list[Rows] = [np.zeros(0, np.int64)]
    weights: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
    step = 32 * GATHERED
    for start in range(0, len(memories.src), step):
        part = slice(start, start + step)
        src, dst = taking.unit_of[memories.src[part]], taking.unit_of[memories.dst[part]]
        kept = memories.edges_alive[part] & (memories.types[part] != against) & (src >= 0) & (dst >= 0) & (src != dst)
        sources.append(src[kept])
        targets.append(dst[kept])
        weights.append(memories.weights[part][kept])
        yield Step("edges", min(start + step, len(memories.src)), len(memories.src))
    found = Edges(np.concatenate(sources), np.concatenate(targets), np.concatenate(weights))
    yield Step("edges", 1, 1)
    return found


def _type_of(memories: Memories, name: str) -> int:
    return list(memories.type_names).index(name) if name in memories.type_names else -1


# ── the evidence ────────────────────────────────────────────────────────────────


class _Evidence:
    """What the texts say of pairs of members, each pair looked at once. Members are places in `rows`."""

    def __init__(
        self,
        memories: Memories,
        readings: Readings,
        rows: Rows,
        vectors: Vectors,
        refusals: Refusals,
        *,
        mix_kinds: bool,
    ) -> None:
        self._readings = readings
        self._rows = rows
        self._vectors = vectors
        self._kinds = memories.kinds[rows]
        self._refusals = refusals
        self._mix_kinds = mix_kinds
        self._superseding = _superseding(memories, rows)
        self._said: dict[tuple[int, int], str] = {}  # "" where nothing speaks against the pair
        self._same: set[tuple[int, int]] = set()  # pairs that say the same
        self._refused: set[int] = set()  # members of refused pairs since `left_out` was asked
        self._left = COMPARISONS
        self._words = 0  # compared since the last step

    def guard(self, floor: float) -> Guard:
        """Refuses groups where something speaks against a pair of one and the other of at least this cosine."""

        def refuses(left: Rows, right: Rows) -> Search[bool]:
            cosines = self._vectors[left] @ self._vectors[right].T
            if not self._mix_kinds and len(np.unique(self._kinds[np.concatenate([left, right])])) > 1:
                self._refuse_priors(int(left[0]), int(right[0]), float(cosines[0, 0]))
                return True
            if cosines.max() < floor:
                return False
            for a, b in np.argwhere(cosines >= floor).tolist():
                if (yield from self.against(int(left[a]), int(right[b]), float(cosines[a, b]))):
                    return True
            return False

        return refuses

    def against(self, a: int, b: int, cosine: float) -> Search[str]:
        """The kind of what speaks against putting two members together, "" for nothing."""
        pair = (min(a, b), max(a, b))
        said = self._said.get(pair)
        if said is None:
            said = self._said[pair] = self._judged(pair, cosine)
            if self._words >= COMPARED_WORDS:
                self._words = 0
                yield Step("evidence", len(self._said), len(self._said))
        if said:
            self._refused.update(pair)
        return said

    def is_copy(self, a: int, b: int, cosine: float) -> Search[bool]:
        """Whether two members of one kind say the same."""
        if self._kinds[a] != self._kinds[b] or (yield from self.against(a, b, cosine)):
            return False
        return (min(a, b), max(a, b)) in self._same

    def left_out(self, inside: Flags) -> int:
        """How many members were in a refused pair and are in no cluster, since this was last asked."""
        count = int(np.count_nonzero(~inside[np.fromiter(self._refused, np.int64, len(self._refused))]))
        self._refused.clear()
        return count

    def forget(self) -> Search[None]:
        """Lets go of what was said, which is long for a hundred thousand pairs."""
        yield from let_go(self._said)

    def _judged(self, pair: tuple[int, int], cosine: float) -> str:
        if pair in self._superseding:
            return self._refuse("superseded", pair, ("", ""), cosine)
        if self._left == 0:
            return self._refuse("unread", pair, ("", ""), cosine)
        self._left -= 1
        left, right = (self._readings[int(self._rows[member])] for member in pair)
        self._words += len(left.words) + len(right.words)
        found = conflict(left, right)
        if found is not None and found.kind.contradicts:
            return self._refuse(found.kind.value, pair, (found.left, found.right), cosine)
        if (changed := change(left, right)) is not None:
            return self._refuse("change", pair, (changed.left, changed.right), cosine)
        # Without a word there is nothing to tell two texts apart by.
        if found is None and left.words and right.words:
            self._same.add(pair)
        return ""

    def _refuse(self, kind: str, pair: tuple[int, int], pieces: tuple[str, str], cosine: float) -> str:
        self._refusals.add(kind, int(self._rows[pair[0]]), int(self._rows[pair[1]]), *pieces, cosine)
        return kind

    def _refuse_priors(self, a: int, b: int, cosine: float) -> None:
        pair = (min(a, b), max(a, b))
        self._refused.update(pair)
        if pair not in self._said:
            self._said[pair] = self._refuse("priors", pair, ("", ""), cosine)


def _superseding(memories: Memories, rows: Rows) -> set[tuple[int, int]]:
    """Pairs of members of which one supersedes the other, the smaller first."""
    place = np.full(len(memories.node_ids), -1)
    place[rows] = np.arange(len(rows))
    kept = np.flatnonzero((memories.types == _type_of(memories, SUPERSEDES)) & memories.edges_alive)
    ends = np.sort(np.stack([place[memories.src[kept]], place[memories.dst[kept]]]), axis=0)
    return {(low, high) for low, high in ends.T.tolist() if low >= 0}


# ── the stages ──────────────────────────────────────────────────────────────────


def _topics(
    memories: Memories,
    vectors: Vectors,
    taking: _Taking,
    tight: list[Rows],
    edges: Edges,
    evidence: _Evidence,
    config: ConsolidationConfig,
    target: int,
    seed: int,
) -> Search[list[Rows]]:
    """The units of each cluster of at least two, those that are tight among them."""
    head = np.arange(len(taking.owners))
    for group in tight:
        head[group] = group[0]
    _, label = np.unique(head, return_inverse=True)
    yield Step("edges", 0, 1)
    count = int(label.max()) + 1
    lots = np.zeros(count, np.int64)
    if not config.mix_kinds:
        lots[label[taking.unit]] = memories.kinds[taking.rows]
    src = label[edges.src]
    yield Step("edges", 1, 1)
    known = Edges(src, label[edges.dst], edges.weight)
    limits = TopicPlan(target, config.max_cluster_size, ROUNDS, config.topic_similarity, EDGE_BONUS, NEAREST)
    topics = yield from topic_clusters(
        vectors, label[taking.unit], lots, known, evidence.guard(NEAR), limits, seed=seed
    )
    cluster = np.empty(count, np.int64)
    for number, group in enumerate(topics):
        cluster[group] = number
    return [group for group in (yield from grouped(cluster[label])) if len(group) > 1]


def _clusters(
    memories: Memories,
    vectors: Vectors,
    taking: _Taking,
    tight: list[Rows],
    groups: list[Rows],
    evidence: _Evidence,
    config: ConsolidationConfig,
) -> Search[list[Cluster]]:
    members = yield from grouped(taking.unit)  # by unit
    inner: dict[int, Rows] = {int(group[0]): group for group in tight}
    found: list[Cluster] = []
    for done, group in enumerate(groups):
        held = _members(members, group)
        parts = tuple(_tight(vectors, members, inner[unit]) for unit in group.tolist() if unit in inner)
        owners = taking.owners[group]
        folds = yield from _folds(memories, vectors, taking.rows, held, evidence, config.fold_similarity)
        copies = [copy for fold in folds for copy in fold.copies]
        found.append(
            Cluster(
                stage=MERGE_STAGE_CONSERVATIVE if parts and parts[0].units == len(group) else MERGE_STAGE_TOPIC,
                rows=np.setdiff1d(taking.rows[held], copies, assume_unique=True) if copies else taking.rows[held],
                replaces=owners[memories.roles[owners] == MEMORY_ROLE_CONTAINER],
                folds=folds,
                units=len(group),
                tight=parts,
                cohesion=cohesion_of(vectors[held]),
            )
        )
        if done % LOOKED_THROUGH == 0:
            yield Step("folding", done + 1, len(groups))
    return sorted(found, key=lambda cluster: int(cluster.rows[0]))


def _members(members: list[Rows], units: Rows) -> Rows:
    """The members of all these units, ascending."""
    held: list[Rows] = [members[unit] for unit in units.tolist()]
    return np.sort(np.concatenate(held))


def _tight(vectors: Vectors, members: list[Rows], units: Rows) -> Tight:
    held = _members(members, units)
    return Tight(len(units), len(held), cohesion_of(vectors[held]))


def _folds(
    memories: Memories, vectors: Vectors, rows: Rows, held: Rows, evidence: _Evidence, similarity: float
) -> Search[tuple[Fold, ...]]:
    """Groups of members that say the same, each member near its survivor and not against it.

    The most important survives, of equals the oldest row.
    """
    cosines = vectors[held] @ vectors[held].T
    near = cosines >= similarity
    np.fill_diagonal(near, False)
    waiting = np.flatnonzero(near.any(axis=1))
    order = waiting[np.argsort(-memories.importance[rows[held[waiting]]], kind="stable")]
    free = near.any(axis=1)
    folds: list[Fold] = []
    for survivor in order.tolist():
        if not free[survivor]:
            continue
        free[survivor] = False
        copies: list[int] = []
        for other in np.flatnonzero(near[survivor] & free).tolist():
            cosine = float(cosines[survivor, other])
            if (yield from evidence.is_copy(int(held[survivor]), int(held[other]), cosine)):
                copies.append(other)
                free[other] = False
        if copies:
            folds.append(
                Fold(
                    survivor=int(rows[held[survivor]]),
                    copies=tuple(rows[held[copies]].tolist()),
                    cosines=tuple(cosines[survivor, copies].tolist()),
                )
            )
    return tuple(folds)


def cohesion_of(vectors: Vectors) -> float:
    """Mean cosine over all pairs of unit vectors, 1 for a single one."""
    count = len(vectors)
    if count < 2:
        return 1.0
    total = vectors.sum(axis=0)
    return float((total @ total - np.square(vectors).sum()) / (count * (count - 1)))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
