"""Parts of journals that no dream found: what `require_sound` lets through is staged, sealed, folded and taken back."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

from benchmarks.proof import acts, parts
from benchmarks.proof.fuzz_changes import change
from benchmarks.proof.fuzz_draws import Draws
from benchmarks.proof.fuzz_watch import Broken, Watch
from benchmarks.proof.jumping_clock import SECOND
from benchmarks.proof.life import Life
from benchmarks.proof.opened import SPACE, Opened
from benchmarks.proof.same import same_as_loaded
from dreamsvc import contract, entropy
from dreamsvc.config import defaults
from dreamsvc.dreamer.v1.operations_pb2 import EdgeDetail, Operations
from dreamsvc.errors import DreamFailed
from dreamsvc.memory import loading, recall
from dreamsvc.memory.doctor import examine
from dreamsvc.memory.soundness import require_sound
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import (
    DiffDreamRequest,
    GetDreamMapRequest,
    ListBlindSpotsRequest,
    RevertRequest,
)
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest

OTHER = "other"
# Parts that are drawn for one dream.
DRAWN = 24


def directory() -> Path:
    """In memory where the machine has such a place: fuzzing waits for many syncs."""
    shm = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="dreamsvc-fuzz-", dir=shm if shm.is_dir() else None))


class PartsTarget:
    name = "parts"
    size = 480

    def __init__(self) -> None:
        self._home = directory()
        self._worlds = 0

    def close(self) -> None:
        shutil.rmtree(self._home, ignore_errors=True)

    def batch(self, watch: Watch, cases: int) -> None:
        draws = Draws(f"{self.name} {watch.seed}")
        while watch.cases < cases:
            with self._world(watch.seed) as life:
                dreams = 0
                # One that broke something leaves a world that nothing more can be learned from.
                while watch.cases < cases and not watch.failures and dreams < 8:
                    self._dream(life, draws, watch)
                    dreams += 1
            if watch.failures:
                return

    @contextlib.contextmanager
    def _world(self, seed: int) -> Iterator[Life]:
        self._worlds += 1
        place = self._home / str(self._worlds)
        place.mkdir()
        life = Life(place / "memory.db", seed=seed, twin=False)
        try:
            life.act("dream")
            _people(life.opened)
            yield life
        finally:
            life.abandon()
            shutil.rmtree(place, ignore_errors=True)

    def _dream(self, life: Life, draws: Draws, watch: Watch) -> None:
        """One night of nonsense, on and back."""
        opened = life.opened
        before = {space: opened.digest(space) for space in (SPACE, OTHER)}
        draws.pools = _pools(opened)
        life.clock.us += SECOND
        journal: list[Operations] = []
        told: list[Operations] = []
        for number in range(DRAWN):
            with watch.case("require_sound"):
                part = _part(opened, draws, told)
                part.part = number
                try:
                    require_sound(part)
                except DreamFailed:
                    watch.ended("refused")
                else:
                    watch.ended("sound")
                    journal.append(part)
        whole = b"\n--\n".join(str(part).encode() for part in journal)
        with watch.case("fold", whole):
            _fold_and_take_back(opened, journal, before)


def _fold_and_take_back(opened: Opened, journal: list[Operations], before: dict[str, str]) -> None:
    uid = entropy.uuid7(opened.clock.now_us())
    change_id, record = acts.begin(opened, uid)
    acts.stage(opened, change_id, record, journal, None)
    opened.journal.compact(change_id)
    record.state = Dream.STATE_FOLDING
    opened.journal.seal_dream(change_id, record).result(acts.PATIENCE_S)
    opened.wait(opened.records.finish(opened.journal.dream(SPACE, uid)))
    _look(opened, uid)
    if opened.digest(OTHER) != before[OTHER]:
        raise Broken("a dream changed another space")
    opened.journal.begin_revert(RevertRequest(space=SPACE, dream_id=uid)).result(acts.PATIENCE_S)
    opened.wait(opened.records.take_back(opened.journal.dream(SPACE, uid)))
    _require_order(opened)
    if {space: opened.digest(space) for space in before} != before:
        raise Broken("what was taken back is not what was there before")


def _look(opened: Opened, uid: str) -> None:
    """Everything that shows a dream to somebody answers, and what queries read is what a start would load."""
    answers = [
        opened.journal.diff(DiffDreamRequest(space=SPACE, dream_id=uid, page_size=1000, with_weights=True)),
        opened.store.dream_map(GetDreamMapRequest(space=SPACE, dream_id=uid, max_memories=1000)),
        opened.store.list_blind_spots(ListBlindSpotsRequest(space=SPACE, page_size=1000)),
        opened.store.stats(SPACE),
    ]
    for answer in answers:
        answer.SerializeToString()
    view = opened.store.graph(SPACE).view
    found = recall.find(view, recall.Query("a b c schema memory", None, 50, (), None, None), defaults().recall)
    opened.store.memories_by_row(SPACE, [one.node for one in found], with_vectors=True)
    opened.digest(SPACE)
    _require_order(opened)


# What joins memories of two spaces, which no reader would notice by itself.
CROSSING = """
SELECT 'edge', e.id FROM edges e JOIN nodes n ON n.id IN (e.source, e.target) WHERE n.space <> e.space
UNION ALL SELECT 'find', b.id FROM blind_spots b JOIN nodes n ON n.id IN (b.source, b.target) WHERE n.space <> b.space
UNION ALL SELECT 'copy', n.id FROM nodes n JOIN nodes h ON h.id = n.merged_into WHERE n.space <> h.space
"""


def _require_order(opened: Opened) -> None:
    if crossing := opened.rows(CROSSING):
        raise Broken(f"joins memories of two spaces: {crossing[:5]}")
    wrong = [f"{found.name}: {found.detail}" for found in examine(str(opened.path)) if not found.ok]
    if wrong:
        raise Broken("; ".join(wrong))
    for space in (SPACE, OTHER):
        fresh = opened.store.database.read(lambda c, name=space: loading.load(c, opened.store.space(name)))
        same_as_loaded(opened.store.graph(space).view, fresh.view)


def _people(opened: Opened) -> None:
    """Another space, and counts and forgotten memories as an import may bring them."""
    ids = [entropy.uuid_for(OTHER, str(i)) for i in range(6)]
    memories = [Memory(id=one, text=f"other {i}", vector=[1.0, float(i)]) for i, one in enumerate(ids)]
    edges = [Edge(source=one, target=other) for one, other in pairwise(ids)]
    request = RememberRequest(space=OTHER, memories=memories, edges=edges)
    contract.fill(request)
    opened.store.remember(request).result(acts.PATIENCE_S)
    counts = "UPDATE nodes SET replay_count=9223372036854775807, access_count=9223372036854775800 WHERE id % 5 = 0"
    opened.store.database.write(lambda connection: connection.execute(counts).fetchall()).result(acts.PATIENCE_S)


def _pools(opened: Opened) -> dict[str, list[int]]:
    """Ids of all kinds: of this space and the other, living and hidden, and such that there are not."""
    nodes = [row[0] for row in opened.rows("SELECT id FROM nodes")]
    nodes += opened_ids(nodes)
    edges = [row[0] for row in opened.rows("SELECT id FROM edges")]
    edges += opened_ids(edges)
    names = ("node_ids", "survivor", "copies", "members", "replaces", "sources", "targets", "path", "node", "peers")
    return {
        **dict.fromkeys((*names, "source", "target", "meeting", "origin"), nodes),
        "edge_ids": edges,
        "number": [1, 2, 3, 2**32 - 1],
        "counts": [0, 1, 1_000_000],
        "types": ["SUPERSEDES", "DREAM_DISCOVERED", "CAUSAL", "related", "x"],
        "metadata": ["", "{}", '{"a":1}', "[]", "{", '{"a":1e400}', '{"a":"\\ud800"}', '{"a":' * 20 + "1" + "}" * 20],
    }


def opened_ids(known: list[int]) -> list[int]:
    return [1, max(known, default=0) + 1, 10**6, 2**63 - 1]


def _part(opened: Opened, draws: Draws, told: list[Operations]) -> Operations:
    """A part as a dream tells it, one that was changed, one of drawn fields, or bytes."""
    if not told:
        told += [*acts.made_parts(opened, Random(draws.getrandbits(32))), *_more(opened, draws)]
    part = Operations()
    part.CopyFrom(told[draws.randrange(len(told))])
    match draws.randrange(10):
        case 0 | 1:
            pass
        case 2:
            part = draws.message(Operations, fill=0.9)
        case 3:
            data = draws.damaged(part.SerializeToString(), told[draws.randrange(len(told))].SerializeToString())
            with contextlib.suppress(Exception):
                part = Operations.FromString(data)
        case _:
            change(draws, part, draws.choice((1, 1, 2, 4)))
    return part


def _more(opened: Opened, draws: Draws) -> list[Operations]:
    """Parts about containers, facets and what is hidden, which no dream would tell like this."""
    where = draws.choice(("space=1", "space=1", "1"))
    nodes = [row[0] for row in opened.rows(f"SELECT id FROM nodes WHERE {where} AND role<>1 ORDER BY id")]
    some = draws.sample(nodes, 8)
    boxes = [row[0] for row in opened.rows("SELECT id FROM nodes WHERE role=1")]
    vectors = {node: [draws.uniform(-1, 1) for _ in range(acts.DIMENSION)] for node in some[:4]}
    detail = EdgeDetail(is_amortized_shortcut=True, path=some[:3], valid_from_us=1, valid_to_us=2**53, evidence="x")
    return [
        parts.eliminations(0, (some[0], some[1:4]), (some[4], some[5:8])),
        parts.containers(0, parts.container(3, vectors, bits=draws.choice((1, 2, 4, 8)), replaces=boxes)),
        parts.new_edges(0, (some[0], some[1], "CAUSAL", 1.0), (-1, some[2], "x", 0.0), detail=detail),
        parts.blind_spots(0, (some[0], some[1], True), (some[2], some[3], False)),
        parts.expansions(0, *(parts.expansion(one, {"a": 1.0}, {other: 0.5}) for one, other in pairwise(some))),
        parts.positions(0, dict.fromkeys(some, (0.25, 0.25))),
    ]
