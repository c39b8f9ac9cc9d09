"""What a scripted dream finds: rounds of replay, then steps; decided by its seed, its phase and its snapshot alone."""

from collections.abc import Collection, Iterator
from random import Random

import numpy as np

from benchmarks.proof import parts
from dreamsvc import snapshot_files
from dreamsvc.dreamer.v1.operations_pb2 import NewMemory, Operations
from dreamsvc.memory import operations
from dreamsvc.memory.standing import CONTAINER, PLAIN
from dreamsvc.v1.dream_pb2 import DREAM_PHASE_NREM, DREAM_PHASE_REM, DreamPhase

# Of the snapshot's arrays.
READ = ("node_ids", "alive", "roles", "edge_ids", "edges_alive", "sources", "targets", "vectors")
# Steps after the replay, in their order; the last five belong to REM.
NREM_STEPS = ("eliminations", "containers", "new_memories", "new_edges")
REM_STEPS = ("expansions", "positions", "new_links", "blind_spots", "walks")


class Script:
    """What a dream finds: rounds of replay, then steps. Depends on seed, phase and snapshot, and on nothing else."""

    def __init__(self, seed: int, phase: "DreamPhase.ValueType", arrays: snapshot_files.Arrays) -> None:
        self._seed = seed
        self._arrays = arrays
        alive = arrays["alive"]
        self.nodes = [int(node) for node in arrays["node_ids"][alive]]
        self._plain = [int(node) for node in arrays["node_ids"][alive & (arrays["roles"] == PLAIN)]]
        self._boxes = [int(node) for node in arrays["node_ids"][alive & (arrays["roles"] == CONTAINER)]]
        self.edges = [int(edge) for edge in arrays["edge_ids"][arrays["edges_alive"]]]
        self.rounds = 0 if phase == DREAM_PHASE_REM else self._random("rounds").randint(1, 4)
        self.steps: list[str] = [] if phase == DREAM_PHASE_REM else list(NREM_STEPS)
        # Steps are numbered over the whole dream; the first of REM:
        self.rem_from = len(self.steps)
        self.steps += [] if phase == DREAM_PHASE_NREM else list(REM_STEPS)

    @property
    def empty(self) -> bool:
        """There is nothing to dream of."""
        return len(self._plain) < 2

    def round(self, number: int) -> list[Operations]:
        """Parts of a round of the replay; numbered by who sends them."""
        random = self._random(f"round {number}")
        found: list[Operations] = []
        edges = sorted(random.sample(self.edges, min(len(self.edges), 6)))
        if edges:
            weights = {edge: random.randint(1, 99) / 128 for edge in edges}
            found.append(parts.weights(0, weights, [edge for edge in edges if random.random() < 0.1]))
        nodes = sorted(random.sample(self.nodes, min(len(self.nodes), 6)))
        found.append(parts.marks(0, {node: random.randint(1, 3) for node in nodes}))
        return found

    def step(self, number: int) -> list[Operations]:
        """Parts of a step after the replay."""
        random = self._random(f"step {number}")
        return [part for part in getattr(self, f"_{self.steps[number]}")(random) if part is not None]

    def parts(self, rounds: int, steps: int, left_out: Collection[int] = ()) -> list[Operations]:
        """The journal up to a place in the dream, numbered."""
        found = [part for number in range(rounds) for part in self.round(number)]
        found += [part for number in range(steps) if number not in left_out for part in self.step(number)]
        for number, part in enumerate(found):
            part.part = number
        return found

    def digest(self, rounds: int, steps: int, left_out: Collection[int] = ()) -> str:
        return operations.journal_digest(operations.coalesce(self.parts(rounds, steps, left_out)))

    # ── steps ───────────────────────────────────────────────────────────────────

    def _eliminations(self, random: Random) -> Iterator[Operations]:
        chosen = random.sample(self._plain, min(len(self._plain), 5))
        if len(chosen) == 5 and random.random() < 0.6:
            yield parts.eliminations(0, (chosen[0], sorted(chosen[1:3])), (chosen[3], chosen[4:5]))

    def _containers(self, random: Random) -> Iterator[Operations]:
        rows = np.flatnonzero(self._arrays["alive"] & (self._arrays["roles"] == PLAIN))
        rows = rows[self._arrays["vectors"][rows].any(axis=1)].tolist()
        if len(rows) < 4 or random.random() < 0.4:
            return
        chosen = random.sample(rows, random.randint(2, 4))
        members = {
            int(self._arrays["node_ids"][row]): self._arrays["vectors"][row].astype(np.float32) for row in chosen
        }
        # One that is there already is replaced only with all that it holds, which the fold looks after.
        replaces = [random.choice(self._boxes)] if self._boxes and random.random() < 0.3 else []
        yield parts.containers(0, parts.container(1, members, replaces=replaces))  # pyright: ignore

    def _new_memories(self, random: Random) -> Iterator[Operations]:
        made = [
            NewMemory(number=number, kind="schema", title=f"schema {number}", text=f"of {number}", importance=0.5)
            for number in range(2, random.randint(3, 5))
        ]
        yield parts.new_memories(0, *made)

    def _new_edges(self, random: Random) -> Iterator[Operations]:
        if len(self._plain) < 3:
            return
        one, two, three = random.sample(self._plain, 3)
        yield parts.new_edges(0, (-2, one, "instance_of", 0.5), (-2, two, "instance_of", 0.25))
        yield parts.new_edges(0, (two, three, "SHORTCUT", 0.5))

    def _expansions(self, random: Random) -> Iterator[Operations]:
        # Peers are linked, or nobody would drop the expansion when the peer goes.
        edges = np.flatnonzero(self._arrays["edges_alive"]).tolist()
        if edges:
            edge = random.choice(edges)
            one, two = (int(self._arrays["node_ids"][self._arrays[end][edge]]) for end in ("sources", "targets"))
            yield parts.expansions(0, parts.expansion(one, {"word": 0.5}, {two: 0.25}))

    def _positions(self, random: Random) -> Iterator[Operations]:
        chosen = sorted(random.sample(self.nodes, min(len(self.nodes), 8)))
        yield parts.positions(0, {node: (random.uniform(-0.6, 0.6), random.uniform(-0.6, 0.6)) for node in chosen})

    def _new_links(self, random: Random) -> Iterator[Operations]:
        one, two = random.sample(self._plain, 2)
        yield parts.new_edges(0, (one, two, "linked", 0.25))

    def _blind_spots(self, random: Random) -> Iterator[Operations]:
        one, two = random.sample(self._plain, 2)
        yield parts.blind_spots(0, (one, two, random.random() < 0.5))

    def _walks(self, random: Random) -> Iterator[Operations]:
        yield parts.walks(0, random.choice(self._plain))

    def _random(self, what: str) -> Random:
        return Random(f"{self._seed} {what}")
