"""A dictionary in the place of a store: what memories and edges must be after each act, as simply as it can be told.

An act is a function of a world, so a dream that was taken back is one that is left out when all is acted out again.
That holds as long as no later dream has built on it; then all that it changed is as it was before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

type Name = str
"""The key of a memory; the id, in hex digits, of what a dream made."""
type Link = tuple[Name, Name, str]
"""Source, target and type."""
type Role = Literal["plain", "container", "facet", "folded", "replaced"]


class One(NamedTuple):
    """A memory."""

    text: str
    importance: float
    alive: bool = True
    role: Role = "plain"
    # What stands for it.
    into: Name = ""
    # The acts that hid it, and in which a user changed it last.
    hidden: int = 0
    touched: int = 0


class Edge(NamedTuple):
    weight: float
    alive: bool = True
    hidden_by: Name = ""
    # The act in which a user changed it last, 0 where only dreams did.
    touched: int = 0


@dataclass
class World:
    memories: dict[Name, One] = field(default_factory=dict[Name, One])
    # In the order in which they were made.
    edges: dict[Link, Edge] = field(default_factory=dict[Link, Edge])

    def copy(self) -> "World":
        return World(dict(self.memories), dict(self.edges))

    def at(self, name: Name) -> list[Link]:
        """Living edges at a memory."""
        return [link for link, edge in self.edges.items() if edge.alive and name in link[:2]]

    def held_by(self, name: Name, role: Role) -> list[Name]:
        """What went into a memory, hidden or not."""
        return [one for one, told in self.memories.items() if told.role == role and told.into == name]

    def change(self, name: Name, **fields: object) -> None:
        self.memories[name] = self.memories[name]._replace(**fields)  # pyright: ignore

    def turn(self, link: Link, **fields: object) -> None:
        self.edges[link] = self.edges[link]._replace(**fields)  # pyright: ignore

    # ── hiding and bringing back ────────────────────────────────────────────────

    def hide(self, name: Name, step: int) -> None:
        """A user's wish: edges go along."""
        self.change(name, alive=False, hidden=step, touched=step)
        for link in self.at(name):
            self.turn(link, alive=False, hidden_by=name, touched=step if self.edges[link].touched else 0)

    def show(self, names: Sequence[Name], step: int) -> None:
        before = {name: self.memories[name] for name in names}
        for name, one in before.items():
            box = self.memories.get(one.into)
            stays = one.role == "facet" and box is not None and (box.alive or one.into in before)
            if one.role not in ("plain", "container") and not stays:
                self.change(name, role="plain", into="")
            self.change(name, alive=True, touched=step)
        for name in names:
            self.revive(name, step)

    def revive(self, name: Name, step: int) -> None:
        for link, edge in self.edges.items():
            if edge.hidden_by != name:
                continue
            gone = [end for end in link[:2] if end != name and not self.memories[end].alive]
            if gone:
                self.turn(link, hidden_by=gone[0])
            else:
                self.turn(link, alive=True, hidden_by="", touched=step if edge.touched else 0)

    def close(self, box: Name, step: int) -> None:
        self.hide(box, step)
        self.change(box, role="replaced", into="")

    def close_if_empty(self, box: Name, step: int) -> None:
        one = self.memories.get(box)
        if one is not None and one.role == "container" and one.alive and not self.held_by(box, "facet"):
            self.close(box, step)


type Act = Callable[[World], None]


# ── what users do ───────────────────────────────────────────────────────────────


def remembered(step: int, told: Mapping[Name, tuple[str, float]], edges: Mapping[Link, float]) -> Act:
    def act(world: World) -> None:
        for key, (text, importance) in told.items():
            old = world.memories.get(key)
            world.memories[key] = One(text, importance, touched=step)
            if old is not None and not old.alive:
                world.revive(key, step)
            if old is not None and old.role == "facet":
                world.close_if_empty(old.into, step)
        for link, weight in edges.items():
            world.edges[link] = Edge(weight, touched=step)

    return act


def imported(step: int, told: Mapping[Name, tuple[str, float]], edges: Mapping[Link, float]) -> Act:
    """What is known already, or forgotten, stays as it is."""

    def act(world: World) -> None:
        for key, (text, importance) in told.items():
            world.memories.setdefault(key, One(text, importance, touched=step))
        for link, weight in edges.items():
            if all(world.memories[end].alive for end in link[:2]):
                world.edges.setdefault(link, Edge(weight, touched=step))

    return act


def forgotten(step: int, names: Sequence[Name]) -> Act:
    def act(world: World) -> None:
        living = [name for name in names if world.memories[name].alive]
        held = [one for name in living for one in world.held_by(name, "facet") if world.memories[one].alive]
        for name in dict.fromkeys([*living, *held]):
            world.hide(name, step)
        for name in names:
            if world.memories[name].role == "folded":
                world.change(name, touched=step)

    return act


def restored(step: int, names: Sequence[Name]) -> Act:
    def act(world: World) -> None:
        hidden = [name for name in names if not world.memories[name].alive]
        for box in list(hidden):
            if world.memories[box].role == "container":
                together = world.memories[box].hidden
                hidden += [one for one in world.held_by(box, "facet") if world.memories[one].hidden == together]
        world.show(list(dict.fromkeys(hidden)), step)

    return act


def unmerged(step: int, name: Name) -> Act:
    def act(world: World) -> None:
        one = world.memories[name]
        if one.role == "container":
            freed = [held for held in world.held_by(name, "facet") if world.memories[held].alive]
            world.close(name, step)
        elif freed := world.held_by(name, "folded"):
            world.show(freed, step)
            world.change(name, touched=step)
        else:
            freed = [name]
        for each in freed:
            world.change(each, role="plain", into="", touched=step)
        if one.role == "facet" and freed == [name]:
            world.close_if_empty(one.into, step)

    return act


def purged() -> Act:
    """All that is hidden, long after."""

    def act(world: World) -> None:
        gone = {name for name, one in world.memories.items() if not one.alive}
        for name in gone:
            del world.memories[name]
        for link in [link for link in world.edges if gone.intersection(link[:2])]:
            assert not world.edges[link].alive
            del world.edges[link]

    return act


def being(there: World) -> Act:
    """All is as it is there."""

    def act(world: World) -> None:
        world.memories, world.edges = dict(there.memories), dict(there.edges)

    return act


# ── what dreams do ──────────────────────────────────────────────────────────────


class Dreamt(NamedTuple):
    """A dream in the words of the model; each of it happens where no user was there since `base`."""

    base: int
    weights: Mapping[Link, float] = {}
    pruned: Sequence[Link] = ()
    copies: Mapping[Name, Sequence[Name]] = {}  # by who survives them
    box: Name = ""
    members: Sequence[Name] = ()
    replaces: Sequence[Name] = ()
    made: Mapping[Name, tuple[str, float]] = {}
    edges: Mapping[Link, float] = {}


def dreamt(step: int, dream: Dreamt) -> Act:
    def act(world: World) -> None:
        for link, weight in dream.weights.items():
            edge = world.edges.get(link)
            if edge is not None and edge.alive and edge.touched <= dream.base:
                world.turn(link, weight=weight, alive=link not in dream.pruned)
        for survivor, copies in dream.copies.items():
            _eliminate(world, step, dream, survivor, copies)
        if dream.box:
            _contain(world, step, dream)
        for name, (text, importance) in dream.made.items():
            world.memories[name] = One(text, importance)
        for (source, target, kind), weight in dream.edges.items():
            one, other = _stands_for(world, source), _stands_for(world, target)
            if one and other and one != other:
                world.edges.setdefault((one, other, kind), Edge(weight))

    return act


def undone(world: World, before: World, after: World) -> None:
    """What a dream changed, by how things were before and after it, is as it was; nobody changed it since."""
    for name, one in after.memories.items():
        was = before.memories.get(name)
        if was is None:
            del world.memories[name]
        elif was != one:
            world.memories[name] = was
    for link, edge in after.edges.items():
        earlier = before.edges.get(link)
        if earlier is None:
            del world.edges[link]
        elif earlier != edge:
            world.edges[link] = earlier
            gone = [end for end in link[:2] if not world.memories[end].alive]
            if earlier.alive and gone:
                world.turn(link, alive=False, hidden_by=gone[0])


def _may(world: World, name: Name, dream: Dreamt) -> bool:
    one = world.memories.get(name)
    return one is not None and one.alive and one.touched <= dream.base


def _stands_for(world: World, name: Name) -> Name:
    one = world.memories.get(name)
    while one is not None and not one.alive and one.role in ("folded", "replaced"):
        name = one.into
        one = world.memories.get(name)
    return name if one is not None and one.alive else ""


def _eliminate(world: World, step: int, dream: Dreamt, survivor: Name, named: Sequence[Name]) -> None:
    fit = [
        name
        for name in (survivor, *named)
        if _may(world, name, dream) and world.memories[name].role in ("plain", "facet")
    ]
    copies = [name for name in fit if name != survivor]
    if survivor not in fit or not copies:
        return
    world.change(survivor, importance=max(world.memories[name].importance for name in fit))
    for name in copies:
        world.change(name, alive=False, role="folded", into=survivor, hidden=step)
    _move_edges(world, copies, survivor, dream)


def _contain(world: World, step: int, dream: Dreamt) -> None:
    boxes = [
        box
        for box in dream.replaces
        if _may(world, box, dream)
        and world.memories[box].role == "container"
        and all(
            name in dream.members and _may(world, name, dream)
            for name in world.held_by(box, "facet")
            if world.memories[name].alive
        )
    ]
    homes = {"", *boxes}
    kept = [
        name
        for name in dream.members
        if _may(world, name, dream)
        and world.memories[name].role in ("plain", "facet")
        and (world.memories[name].into if world.memories[name].role == "facet" else "") in homes
    ]
    if len({world.memories[name].into or name for name in kept}) < 2:
        return
    importance = max(world.memories[name].importance for name in kept)
    world.memories[dream.box] = One("of several", importance, role="container")
    for name in kept:
        world.change(name, role="facet", into=dream.box)
    for box in boxes:
        world.change(box, alive=False, role="replaced", into=dream.box, hidden=step)
    _move_edges(world, boxes, dream.box, dream)


def _move_edges(world: World, gone: Iterable[Name], heir: Name, dream: Dreamt) -> None:
    moved = set(gone)
    found = [link for link, edge in world.edges.items() if edge.alive and moved.intersection(link[:2])]
    own = {link: edge for link, edge in world.edges.items() if heir in link[:2]}
    wanted: dict[Link, float] = {}
    for link in found:
        source, target, kind = link
        name = (heir if source in moved else source, heir if target in moved else target, kind)
        weight = world.edges[link].weight
        if name[0] != name[1]:
            wanted[name] = max(weight, wanted.get(name, 0.0))
        world.turn(link, alive=False, hidden_by=source if source in moved else target)
    for name, weight in wanted.items():
        mine = own.get(name)
        if mine is None:
            world.edges[name] = Edge(weight)
        elif mine.touched <= dream.base:
            world.turn(name, weight=max(weight, mine.weight) if mine.alive else weight, alive=True, hidden_by="")
