"""How the edits of a dream read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsvc.cli import diff_text
from dreamsvc.cli.diff_text import Detail, Group
from dreamsvc.v1.dream_pb2 import MERGE_STAGE_TOPIC
from dreamsvc.v1.dream_service_pb2 import DreamEdit, EditedMemory

ALL = Detail(edits=None, memories=None, ids=False)


def edit(
    kind: DreamEdit.Kind.ValueType,
    *texts: str,
    what: str = "",
    why: str = "",
    weight_before: float = 0,
    weight_after: float = 0,
) -> DreamEdit:
    memories = [EditedMemory(id=f"m{number}", text=text) for number, text in enumerate(texts)]
    return DreamEdit(
        kind=kind,
        what=what,
        why=why,
        memories=memories,
        weight_before=weight_before,
        weight_after=weight_after,
    )


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        (
            edit(DreamEdit.KIND_ELIMINATED, "She likes tea.", "she likes tea", why="cosine 0.97"),
            ["eliminated: “She likes tea.” stands for “she likes tea” (cosine 0.97)"],
        ),
        (
            edit(DreamEdit.KIND_ELIMINATED, "a", "b", "c"),
            ["eliminated: “a” stands for 2 others", "    “b”", "    “c”"],
        ),
        (
            edit(DreamEdit.KIND_MEMORY_MADE, "Deploys: need the VPN", what="schema", why="need the VPN"),
            ["made: “Deploys: need the VPN” (schema)"],
        ),
        (
            edit(DreamEdit.KIND_MEMORY_MADE, "a", "b", what="schema", why="3 of 4"),
            ["made: “a” (schema, 3 of 4)", "    “b”"],
        ),
        (
            edit(DreamEdit.KIND_EDGE_MADE, "Rome", "Oslo", what="SUPERSEDES", why="moved"),
            ["superseded: “Oslo” by “Rome” (moved)"],
        ),
        (
            edit(DreamEdit.KIND_EDGE_MADE, "a", "b", what="shortcut", weight_after=0.3),
            ["new edge: “a” -shortcut-> “b”, weight 0.300"],
        ),
        (
            edit(DreamEdit.KIND_EDGE_STRENGTHENED, "a", "b", what="related", weight_before=0.4, weight_after=0.43),
            ["stronger: “a” -related-> “b”, 0.400 -> 0.430"],
        ),
        (
            edit(DreamEdit.KIND_EDGE_WEAKENED, "a", "b", what="related", weight_before=0.4, weight_after=0.3996),
            ["weaker: “a” -related-> “b”, 0.400 -> 0.400"],
        ),
        (
            edit(DreamEdit.KIND_EDGE_PRUNED, "a", "b", what="related", weight_before=0.06),
            ["pruned: “a” -related-> “b”, weight was 0.060"],
        ),
    ],
)
def test_an_edit_says_what_was_done_to_which_memories(shown: DreamEdit, told: list[str]) -> None:
    assert list(diff_text.edit_lines(shown, ALL)) == told


def test_a_merge_lists_its_members_and_cuts_a_long_list() -> None:
    merged = edit(DreamEdit.KIND_MERGED, *(f"text {number}" for number in range(8)), what="Deploys")
    merged.stage = MERGE_STAGE_TOPIC
    assert list(diff_text.edit_lines(merged, ALL._replace(memories=2))) == [
        "merged 8 memories into “Deploys” (topic)",
        "    “text 0”",
        "    “text 1”",
        "    … and 6 more",
    ]
    assert len(list(diff_text.edit_lines(merged, ALL))) == 9


def test_ids_are_shown_where_they_are_asked_for() -> None:
    shown = edit(DreamEdit.KIND_ELIMINATED, "a", "b")
    (line,) = diff_text.edit_lines(shown, ALL._replace(ids=True))
    assert line == "eliminated: “a” [m0] stands for “b” [m1]"


def test_groups_stand_in_one_order_and_a_long_one_names_the_way_to_all_of_it() -> None:
    edits = [
        *(edit(DreamEdit.KIND_EDGE_STRENGTHENED, "a", "b", what="related") for _ in range(1_203)),
        edit(DreamEdit.KIND_MERGED, what="Deploys"),
        edit(DreamEdit.KIND_EDGE_MADE, "new", "old", what="supersedes"),
        edit(DreamEdit.KIND_EDGE_MADE, "a", "b", what="shortcut"),
    ]
    detail = ALL._replace(edits=2)
    found = diff_text.grouped(iter(edits), detail)
    assert diff_text.summary(found.counts) == "1 merged, 1 superseded, 1 new edge, 1,203 stronger"
    lines = list(diff_text.lines(found, detail, "dreamsvc diff d --all"))
    assert [line.partition(":")[0] for line in lines] == [
        *("", "merged 0 memories into “Deploys”"),
        *("", "superseded"),
        *("", "new edge"),
        *("", "stronger", "stronger", "… and 1,201 more stronger; `dreamsvc diff d --all` shows all"),
    ]


def test_a_text_cannot_steer_the_terminal_or_break_the_line() -> None:
    (line,) = diff_text.edit_lines(edit(DreamEdit.KIND_ELIMINATED, "a\x1b[2J\nb", "c" * 500, why="x\ny"), ALL)
    assert line == f"eliminated: “a[2J b” stands for “{'c' * 99}…” (x y)"


KINDS = [*DreamEdit.Kind.values(), 99]


@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 4), st.sampled_from(["", "related", "supersedes"]))),
    st.integers(0, 3) | st.none(),
)
def test_every_edit_is_shown_or_counted(described: list[tuple[int, int, str]], limit: int | None) -> None:
    edits = [
        DreamEdit(kind=kind, what=what, memories=[EditedMemory(text="t")] * members)  # pyright: ignore[reportArgumentType]
        for kind, members, what in described
    ]
    detail = ALL._replace(edits=limit)
    found = diff_text.grouped(edits, detail)
    assert sum(found.counts.values()) == len(edits)
    assert list(found.counts) == list(Group)
    text = "\n".join(diff_text.lines(found, detail, "all"))
    left_out = [int(number) for line in text.splitlines() if line.startswith("… and ") for number in [line.split()[2]]]
    assert sum(map(len, found.shown.values())) + sum(left_out) == len(edits)
    assert all(len(shown) <= (len(edits) if limit is None else limit) for shown in found.shown.values())
