"""The edits of a dream as people read them: grouped by what was done, long lists cut."""

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum, auto
from typing import NamedTuple

from dreamsvc.cli import output
from dreamsvc.cli.output import counted
from dreamsvc.v1.dream_pb2 import MergeStage
from dreamsvc.v1.dream_service_pb2 import DreamEdit, EditedMemory

_TEXT_LENGTH = 100
_TITLE_LENGTH = 60

# Type of the edge from a newer fact to the older one that it supersedes.
_SUPERSEDES = "supersedes"


class Group(IntEnum):
    """What was done, in the order in which it is shown; the value's name in words follows a count."""

    ELIMINATED = auto()
    MERGED = auto()
    SUPERSEDED = auto()
    MADE = auto()
    NEW_EDGES = auto()
    PRUNED = auto()
    STRONGER = auto()
    WEAKER = auto()
    OTHER = auto()

    @property
    def words(self) -> str:
        return self.name.lower().replace("_", " ")


_GROUPS: dict[int, Group] = {
    DreamEdit.KIND_ELIMINATED: Group.ELIMINATED,
    DreamEdit.KIND_MERGED: Group.MERGED,
    DreamEdit.KIND_MEMORY_MADE: Group.MADE,
    DreamEdit.KIND_EDGE_MADE: Group.NEW_EDGES,
    DreamEdit.KIND_EDGE_PRUNED: Group.PRUNED,
    DreamEdit.KIND_EDGE_STRENGTHENED: Group.STRONGER,
    DreamEdit.KIND_EDGE_WEAKENED: Group.WEAKER,
}


class Detail(NamedTuple):
    """How much is shown; None shows all."""

    # Of each group.
    edits: int | None
    # Of each edit.
    memories: int | None
    # Also the ids of memories, for `dreamsvc get` and `dreamsvc unmerge`.
    ids: bool


class Grouped(NamedTuple):
    """The edits to show, and how many there are in all, by group."""

    shown: dict[Group, list[DreamEdit]]
    counts: dict[Group, int]


def grouped(edits: Iterable[DreamEdit], detail: Detail) -> Grouped:
    """Keeps no more than will be shown: a night may have made a million edits."""
    shown: dict[Group, list[DreamEdit]] = {group: [] for group in Group}
    counts = dict.fromkeys(Group, 0)
    for edit in edits:
        group = group_of(edit)
        counts[group] += 1
        if detail.edits is None or counts[group] <= detail.edits:
            shown[group].append(edit)
    return Grouped(shown, counts)


def group_of(edit: DreamEdit) -> Group:
    group = _GROUPS.get(edit.kind, Group.OTHER)
    return Group.SUPERSEDED if group is Group.NEW_EDGES and edit.what.lower() == _SUPERSEDES else group


def summary(counts: dict[Group, int]) -> str:
    """E.g. "52 eliminated, 130 merged, 12 new edges"."""
    return ", ".join(_counted(number, group) for group, number in counts.items() if number) or "no edits"


def _counted(number: int, group: Group) -> str:
    words = group.words
    return counted(number, words.removesuffix("s") if words.endswith("edges") else words, words)


def lines(edits: Grouped, detail: Detail, see_all: str) -> Iterator[str]:
    """The edits, an empty line before each group; `see_all` is the command that cuts nothing."""
    for group, shown in edits.shown.items():
        total = edits.counts[group]
        if not total:
            continue
        yield ""
        for edit in shown:
            yield from edit_lines(edit, detail)
        if total > len(shown):
            more = _counted(total - len(shown), group).replace(" ", " more ", 1)
            yield f"… and {more}; `{see_all}` shows all"


def edit_lines(edit: DreamEdit, detail: Detail) -> Iterator[str]:
    """One edit: a line, and below it the memories where there are many."""
    match group_of(edit):
        case Group.ELIMINATED:
            yield from _eliminated_lines(edit, detail)
        case Group.MERGED:
            stage = output.word(MergeStage, edit.stage, "MERGE_STAGE_")
            members = counted(len(edit.memories), "memory", "memories")
            yield f"merged {members} into {_quoted(edit.what)}{_noted(stage, edit.why)}"
            yield from _member_lines(edit.memories, detail)
        case Group.SUPERSEDED:
            newer, older = _ends(edit, detail)
            yield f"superseded: {older} by {newer}{_noted(edit.why)}"
        case Group.MADE:
            made, *sources = edit.memories or [EditedMemory()]
            # A pattern is its own reason.
            why = edit.why if edit.why not in made.text else ""
            yield f"made: {_named(made, detail)}{_noted(edit.what, why)}"
            yield from _member_lines(sources, detail)
        case Group.NEW_EDGES:
            yield f"new edge: {_edge(edit, detail)}, weight {edit.weight_after:.3f}{_noted(edit.why)}"
        case Group.PRUNED:
            yield f"pruned: {_edge(edit, detail)}, weight was {edit.weight_before:.3f}{_noted(edit.why)}"
        case Group.STRONGER | Group.WEAKER as group:
            change = f"{edit.weight_before:.3f} -> {edit.weight_after:.3f}"
            yield f"{group.words}: {_edge(edit, detail)}, {change}{_noted(edit.why)}"
        case Group.OTHER:
            # A newer server may know more kinds.
            yield f"{output.word(DreamEdit.Kind, edit.kind, 'KIND_')}: {_quoted(edit.what)}{_noted(edit.why)}"
            yield from _member_lines(edit.memories, detail)


def _eliminated_lines(edit: DreamEdit, detail: Detail) -> Iterator[str]:
    survivor, *copies = edit.memories or [EditedMemory()]
    if len(copies) == 1:
        yield f"eliminated: {_named(survivor, detail)} stands for {_named(copies[0], detail)}{_noted(edit.why)}"
        return
    others = counted(len(copies), "other", "others")
    yield f"eliminated: {_named(survivor, detail)} stands for {others}{_noted(edit.why)}"
    yield from _member_lines(copies, detail)


def _member_lines(memories: Sequence[EditedMemory], detail: Detail) -> Iterator[str]:
    shown = memories[: detail.memories]
    for memory in shown:
        yield f"    {_named(memory, detail)}"
    if len(memories) > len(shown):
        yield f"    … and {len(memories) - len(shown):,} more"


def _edge(edit: DreamEdit, detail: Detail) -> str:
    source, target = _ends(edit, detail)
    return f"{source} -{output.shortened(edit.what, _TITLE_LENGTH)}-> {target}"


def _ends(edit: DreamEdit, detail: Detail) -> tuple[str, str]:
    source, target = [*edit.memories, EditedMemory(), EditedMemory()][:2]
    return _named(source, detail), _named(target, detail)


def _named(memory: EditedMemory, detail: Detail) -> str:
    name = f"“{output.shortened(memory.text or memory.key or memory.id, _TEXT_LENGTH)}”"
    return f"{name} [{output.plain(memory.id)}]" if detail.ids else name


def _quoted(title: str) -> str:
    return f"“{output.shortened(title, _TITLE_LENGTH)}”" if title else "one without a title"


def _noted(*notes: str) -> str:
    noted = ", ".join(output.shortened(note, _TEXT_LENGTH) for note in notes if note)
    return f" ({noted})" if noted else ""
