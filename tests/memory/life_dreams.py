"""Dreams of a life: journals of some kinds of parts by chance, and the same in the words of the model."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.proof import parts
from dreamsvc import entropy
from dreamsvc.dreamer.v1.operations_pb2 import NewMemory, Operations
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.v1.dream_pb2 import Dream
from tests.memory.life_model import Dreamt, Link, Name, World
from tests.memory.life_store import LifeStore

KIND = "related"
# Never touched, and without any of the words: what is found by a word has more of it than this.
CONTROL = "control"


class Drawn(NamedTuple):
    """A dream that has begun."""

    change: ChangeId
    dream: Dream
    parts: list[Operations]
    told: Dreamt


def some[T](among: Sequence[T], pick: int, count: int) -> list[T]:
    """By a number that hypothesis draws."""
    return [among[i] for i in np.random.default_rng(pick).permutation(len(among))[:count]]


def names(world: World, *roles: str, alive: bool = True) -> list[Name]:
    return [
        name
        for name, one in world.memories.items()
        if one.alive == alive and name != CONTROL and (not roles or one.role in roles)
    ]


def links(world: World, ends: Sequence[Name], pick: int, count: int) -> list[Link]:
    """Of every two one that is there already, where there is one."""
    pairs = some([(one, other, KIND) for one in ends for other in ends if one != other], pick, 99)
    return sorted(pairs, key=lambda link: pairs.index(link) // (1 + (link in world.edges)))[:count]


def draw(store: LifeStore, world: World, step: int, pick: int, weight: float) -> Drawn:
    change, dream = store.room.begin_dream()
    making = _Making(store, world, step, pick, weight, dream)
    for kind in (
        making.weights,
        making.marks,
        making.copies,
        making.container,
        making.memory,
        making.edges,
        making.derived,
    ):
        if making.chance.random() < 0.55:
            kind()
    if not making.journal:
        making.journal.append(parts.marks(0, {store.row(CONTROL): 1}))
    return Drawn(change, dream, making.journal, making.told)


class _Making:
    """A journal while it is made."""

    def __init__(self, store: LifeStore, world: World, step: int, pick: int, weight: float, dream: Dream) -> None:
        self.told = Dreamt(base=step)
        self.journal: list[Operations] = []
        self.chance = np.random.default_rng(pick)
        self._store, self._world, self._pick, self._weight, self._dream = store, world, pick, weight, dream
        # What no part has taken yet.
        self._free = some(names(world, "plain"), pick, 99)

    @property
    def _number(self) -> int:
        return len(self.journal)

    def _rows(self, wanted: Sequence[Name]) -> list[int]:
        return [self._store.row(name) for name in wanted]

    def _born(self, number: int) -> Name:
        """What a memory is called that the dream makes."""
        uid = entropy.uuid_bytes(entropy.uuid_for(self._dream.id, str(number)))
        assert uid is not None
        return uid.hex().upper()

    def weights(self) -> None:
        chosen = some([link for link, edge in self._world.edges.items() if edge.alive], self._pick, 9)
        pruned = chosen[:1] if self.chance.random() < 0.4 else []
        if chosen:
            self.told = self.told._replace(weights=dict.fromkeys(chosen, self._weight), pruned=pruned)
            rows = {link: self._store.edge_row(link) for link in chosen}
            weights = dict.fromkeys(rows.values(), self._weight)
            self.journal.append(parts.weights(self._number, weights, [rows[link] for link in pruned]))

    def marks(self) -> None:
        if self._free:
            self.journal.append(parts.marks(self._number, dict.fromkeys(self._rows(self._free[:3]), 2)))

    def copies(self) -> None:
        taken = self._free[: int(self.chance.integers(2, 4))]
        if len(taken) > 1:
            survivor, *copies = taken
            self._free = self._free[len(taken) :]
            self.told = self.told._replace(copies={survivor: copies})
            self.journal.append(
                parts.eliminations(self._number, (self._store.row(survivor), sorted(self._rows(copies))))
            )

    def container(self) -> None:
        """Of what stands for itself, and perhaps of all that another one holds."""
        boxes = names(self._world, "container")[:1]
        # What a dream made has no vector.
        members = [name for name in self._free if len(name) < 32][: int(self.chance.integers(1, 4))]
        replaces: list[Name] = []
        if boxes and (self.chance.random() < 0.5 or len(members) < 2):
            replaces = boxes
            members += [one for one in self._world.held_by(boxes[0], "facet") if self._world.memories[one].alive]
        if len(members) > 1:
            self.told = self.told._replace(box=self._born(1), members=members, replaces=replaces)
            vectors = self._store.room.vectors(self._rows(members))
            box = parts.container(1, vectors, bits=8, replaces=self._rows(replaces), title="")
            self.journal.append(parts.containers(self._number, box))

    def memory(self) -> None:
        self.told = self.told._replace(made={self._born(2): ("z schema", self._weight)})
        made = NewMemory(number=2, kind="schema", text="z schema", importance=self._weight, metadata="{}")
        self.journal.append(parts.new_memories(self._number, made))

    def edges(self) -> None:
        ends = names(self._world, "plain", "facet")
        chosen = links(self._world, ends, self._pick, 2)
        told = dict.fromkeys(chosen, self._weight)
        rows = [(*self._rows(link[:2]), link[2], self._weight) for link in chosen]
        if self.told.made and ends:
            told[(self._born(2), ends[0], "abstracts")] = self._weight
            rows.append((-2, self._store.row(ends[0]), "abstracts", self._weight))
        if rows:
            self.told = self.told._replace(edges=told)
            self.journal.append(parts.new_edges(self._number, *rows))

    def derived(self) -> None:
        """What is beside the memories, and no part of an export."""
        ends = self._rows(names(self._world, "plain", "facet")[:2])
        if len(ends) > 1:
            one, other = ends
            self.journal.append(parts.expansions(self._number, parts.expansion(one, {"larch": 0.5}, {other: 0.5})))
            self.journal.append(parts.positions(self._number, dict.fromkeys(ends, (0.25, 0.5))))
            self.journal.append(parts.blind_spots(self._number, (one, other, True)))
            self.journal.append(parts.walks(self._number, one))
