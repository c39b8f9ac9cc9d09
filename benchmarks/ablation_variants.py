"""The nights of which the benchmark of ablation is made: which parts each has, and how a server is told."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from dreamsvc.v1.dream_pb2 import DREAM_PHASE_FULL_CYCLE, DREAM_PHASE_NREM, DREAM_PHASE_REM, DreamPhase

type Settings = dict[str, bool | float]

ALWAYS: Settings = {"dream.trigger.automatic": False, "dream.resources.max_gpu_usage": 1}
# By part, what switches it off; a replay without learning and forgetting changes no edge.
OFF: Mapping[str, Settings] = {
    "replay": {"dream.nrem.learning_rate": 0, "dream.nrem.decay_rate": 0},
    "redundancy": {"dream.redundancy.enabled": False},
    "tight": {"dream.consolidation.enabled": False},
    "topics": {"dream.consolidation.topics": False},
    "schemas": {"dream.schema.enabled": False},
    "shortcuts": {"dream.shortcuts.enabled": False},
    "mentions": {"dream.linking.mentions": False},
    "entities": {"dream.linking.shared_entities": False},
    "adjacency": {"dream.linking.adjacency": False},
    "words": {"dream.linking.expand_words": False},
    "vectors": {"dream.linking.expand_vectors": False},
    "exploring": {"dream.rem.explore": False},
    "index": {"recall.expansion_weight": 0},
    "walk": {"recall.walk_weight": 0},
}
NO_LINKING: Settings = {"dream.linking.enabled": False}
EVERYTHING = frozenset(OFF)
IN_NREM = frozenset({"replay", "redundancy", "tight", "topics", "schemas", "shortcuts"})
EVIDENCE = frozenset({"mentions", "entities", "adjacency"})
# How links are read: by words and vectors that the index learnt of them, and by the walk of a query.
READING = frozenset({"words", "vectors", "index", "walk"})
LINKING = EVIDENCE | READING


class Variant(NamedTuple):
    """One night, and what of it is switched on."""

    name: str  # as figures have it
    label: str
    parts: frozenset[str] = frozenset()
    # The variant whose night comes before this one; empty: it is the first.
    after: str = ""
    used: bool = False  # whether that one was asked all questions in between
    note: str = ""

    @property
    def phase(self) -> DreamPhase.ValueType | None:
        """None: no night at all."""
        nrem, rem = bool(self.parts & IN_NREM), bool(self.parts - IN_NREM - READING)
        if not (nrem or rem):
            return None
        if nrem and rem:
            return DREAM_PHASE_FULL_CYCLE
        return DREAM_PHASE_NREM if nrem else DREAM_PHASE_REM

    @property
    def settings(self) -> Settings:
        settings = dict(ALWAYS)
        for part in sorted(EVERYTHING - self.parts):
            settings |= OFF[part]
        if not self.parts & EVIDENCE:
            settings |= NO_LINKING
        return settings

    def config(self) -> str:
        """As TOML."""
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in self.settings.items())


def _alone(name: str, label: str, *parts: str, note: str = "") -> Variant:
    """What is found is read as it is by default."""
    return Variant(f"only_{name}", f"{label} alone", frozenset({*parts, "index", "walk"}), note=note)


def _without(name: str, label: str, *parts: str) -> Variant:
    return Variant(f"no_{name}", f"all without {label}", EVERYTHING - frozenset(parts))


_NO_EDGES = "no edges yet"
_SECOND = "a second night"
_READ = "no second night"
_USED = "a second night, after the same questions"
NOTHING, ALL, LINKED = "nothing", "all", "only_linking"
VARIANTS = (
    Variant(NOTHING, "nothing", READING),
    Variant(ALL, "all", EVERYTHING),
    _alone("replay", "replay", "replay", note=_NO_EDGES),
    _alone("redundancy", "redundancy", "redundancy"),
    _alone("tight", "tight containers", "tight", note="no edges that couple yet"),
    _alone("topics", "topic containers", "topics"),
    _alone("schemas", "schemas", "schemas", note="no containers and no edges yet"),
    _alone("shortcuts", "shortcuts", "shortcuts", note=_NO_EDGES),
    Variant(LINKED, "linking alone", LINKING),
    Variant("only_mentions", "mentions alone", READING | {"mentions"}),
    Variant("only_entities", "shared entities alone", READING | {"entities"}),
    Variant("only_adjacency", "adjacency alone", READING | {"adjacency"}),
    Variant("only_words", "links, for words alone", EVIDENCE | {"words", "index"}),
    Variant("only_vectors", "links, for vectors alone", EVIDENCE | {"vectors", "index"}),
    Variant("only_walk", "links, for the walk alone", EVIDENCE | {"walk"}),
    _alone("exploring", "exploring", "exploring"),
    _without("replay", "replay", "replay"),
    _without("redundancy", "redundancy", "redundancy"),
    _without("topics", "topic containers", "topics"),
    _without("linking", "linking", *EVIDENCE, "words", "vectors"),
    _without("words", "words of links", "words"),
    _without("vectors", "vectors of links", "vectors"),
    _without("walk", "the walk", "walk"),
    _without("exploring", "exploring", "exploring"),
    Variant("then_walk", "linking, read by the walk alone", frozenset({"walk"}), after=LINKED, note=_READ),
    Variant("then_replay", "all, then replay alone", READING | {"replay"}, after=ALL, note=_SECOND),
    Variant("used_replay", "all, asked, then replay alone", READING | {"replay"}, after=ALL, used=True, note=_USED),
    Variant("then_shortcuts", "all, then shortcuts alone", READING | {"shortcuts"}, after=ALL, note=_SECOND),
)
