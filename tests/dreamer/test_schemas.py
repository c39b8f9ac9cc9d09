import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import contract
from dreamsvc.dreamer import schemas
from dreamsvc.dreamer.schemas import extract
from dreamsvc.v1.config_pb2 import SchemaConfig
from tests.dreamer.remembered import remembered, result

KINDS = ("note", "person", "place", "schema")
NOTE, PERSON, PLACE, SCHEMA = range(4)
# Persons 0 to 4 live in places 5 to 9, and four of them work at 10.
TEXTS = [*"ABCDE", "Oslo", "Bergen", "Rome", "Paris", "Bonn", "Acme", "spare"]
LIVES = [(person, person + 5, "lives_in") for person in range(5)]
WORKS = [(person, 10, "works_at") for person in range(4)]
KIND_OF = [PERSON] * 5 + [PLACE] * 5 + [NOTE] * 2
TITLE = "person: lives_in → ?place, works_at → Acme"


def found(memories, *clusters, **settings):
    config = SchemaConfig(**settings)
    contract.fill(config)
    return result(extract(memories, [np.array(rows, np.int64) for rows in clusters], config))


def people(edges=(*LIVES, *WORKS), **more):
    columns = {"kinds": KIND_OF, **more.pop("columns", {})}
    return remembered(TEXTS, edges=list(edges), columns=columns, kinds=KINDS, **more)


def test_what_enough_members_share_becomes_a_template():
    (schema,) = found(people(), range(5))
    assert schema.title == TITLE
    assert schema.sources == [0, 1, 2, 3, 4]
    assert schema.confidence == pytest.approx((5 / 5 + 4 / 5) / 2)
    assert schema.text.split("\n") == [
        "What 5 memories have in common:",
        "person lives_in → ?place (5 of 5), e.g. Oslo; Bergen; Rome",
        "person works_at → Acme (4 of 5)",
    ]
    assert json.loads(json.dumps(schema.metadata)) == {
        "slots": [{"name": "?place", "kinds": ["place"], "fillers": 5, "examples": ["Oslo", "Bergen", "Rome"]}],
        "patterns": [
            {"type": "lives_in", "direction": "out", "support": 1.0, "other": "?place"},
            {"type": "works_at", "direction": "out", "support": 0.8, "other": people().id_of(10)},
        ],
        "confidence": pytest.approx(0.9),
        "abstraction_level": 0.7,
        "size": 5,
    }


def test_a_cluster_that_is_too_small_or_shares_too_little_has_none():
    assert found(people(), range(4)) == []
    assert len(found(people(), range(4), min_cluster_size=4)) == 1
    assert found(people(WORKS[:3]), range(5)) == []
    assert [schema.title for schema in found(people(WORKS[:3]), range(5), abstraction_level=0.6)] == [
        "person: works_at → Acme"
    ]


def test_an_edge_that_a_member_has_twice_counts_once():
    many = [(0, 5, "lives_in"), (0, 6, "lives_in"), (0, 7, "lives_in"), (0, 8, "lives_in"), (1, 5, "lives_in")]
    assert found(people(many), range(5)) == []


def test_the_direction_is_part_of_the_pattern():
    (schema,) = found(people([(11, person, "knows") for person in range(5)]), range(5))
    assert schema.title == "person: knows ← spare"
    assert schema.metadata["patterns"][0]["direction"] == "in"
    both = [(11, 0, "knows"), (11, 1, "knows"), (2, 11, "knows"), (3, 11, "knows"), (4, 11, "knows")]
    assert found(people(both), range(5)) == []


def test_a_slot_is_named_by_the_kind_of_its_fillers_or_by_the_edge():
    mixed = [(0, 5, "likes"), (1, 6, "likes"), (2, 11, "likes"), (3, 10, "likes"), (4, 0, "likes")]
    assert [schema.title for schema in found(people(mixed), range(5))] == ["person: likes → ?likes"]
    twice = [*LIVES, *((person, (person + 1) % 5 + 5, "born_in") for person in range(5))]
    assert [schema.title for schema in found(people(twice), range(5))] == [
        "person: born_in → ?place, lives_in → ?place_2"
    ]


def test_nearly_all_make_a_constant():
    nine = [(row, 12 if row < 9 else 13, "at") for row in range(10)]
    memories = remembered([*"ABCDEFGHIJ", "x", "y", "Acme", "Globex"], edges=nine)
    assert found(memories, range(10))[0].title == "note: at → Acme"
    assert found(memories, range(5, 10))[0].title == "note: at → ?note"


def test_dead_edges_loops_and_what_dreams_made_are_no_patterns():
    assert found(people(WORKS, dead_edges=range(4)), range(5)) == []
    assert found(people([(person, person, "is") for person in range(5)]), range(5)) == []
    for name in ("SUPERSEDES", "ABSTRACTS"):
        assert found(people([(person, 10, name) for person in range(5)]), range(5)) == []
    causal = [(person, 10, "CAUSAL") for person in range(5)]
    assert found(people(causal, columns={"trusted": [0] * 5}), range(5)) == []
    assert [schema.title for schema in found(people(causal), range(5))] == ["person: CAUSAL → Acme"]


def test_a_schema_that_lives_already_is_not_made_again():
    kinds = [*KIND_OF[:11], SCHEMA]
    known = {"kinds": kinds, "titles": [""] * 11 + [TITLE]}
    assert found(people(columns=known), range(5)) == []
    assert len(found(people(columns={**known, "kinds": KIND_OF}), range(5))) == 1
    assert len(found(people(columns={**known, "alive": [1] * 11 + [0]}), range(5))) == 1


def test_schemas_are_not_abstracted_themselves():
    columns = {"kinds": [PERSON] * 4 + [SCHEMA] + KIND_OF[5:]}
    assert found(people(columns=columns), range(5)) == []


def test_the_best_come_first_up_to_the_limit_and_each_once():
    texts = [str(row) for row in range(20)]
    edges = [(row, 19, "a") for row in range(6)] + [(row, 19, "b") for row in range(6, 11)]
    edges += [(row, 19, "b") for row in range(11, 18)]
    memories = remembered(texts, edges=edges)
    out = found(memories, range(6), range(6, 11), range(11, 18))
    assert [(schema.title, len(schema.sources)) for schema in out] == [("note: b → 19", 7), ("note: a → 19", 6)]
    only = found(memories, range(6), range(6, 11), range(11, 18), max_schemas_per_cycle=1)
    assert [schema.title for schema in only] == ["note: b → 19"]
    assert found(memories, range(6), max_schemas_per_cycle=0) == []


def test_long_and_empty_texts_have_a_label():
    texts = [*"ABCDE", "a very\nlong " * 20, ""]
    edges = [(row, 5, "about") for row in range(5)] + [(row, 6, "on") for row in range(5)]
    (schema,) = found(remembered(texts, edges=edges), range(5))
    about, on = schema.title.removeprefix("note: ").split(", ")
    assert about.endswith("…")
    assert len(about.removeprefix("about → ")) <= schemas.LABEL
    assert on == "on → (no text)"


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.floats(0.1, 1.0))
def test_every_pattern_has_the_support_it_tells(seed, count, level):
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, 12, (count, 2)).tolist()
    types = rng.choice(["a", "b", "c"], count).tolist()
    memories = remembered(TEXTS, edges=[(*pair, name) for pair, name in zip(ends, types, strict=True)])
    members = rng.permutation(12)[:6]
    for schema in found(memories, members, abstraction_level=level):
        supports: list[float] = []
        for pattern in schema.metadata["patterns"]:
            near = 0 if pattern["direction"] == "out" else 1
            having = {
                pair[near]
                for pair, name in zip(ends, types, strict=True)
                if name == pattern["type"] and pair[near] in members and pair[0] != pair[1]
            }
            assert pattern["support"] == pytest.approx(len(having) / 6)
            assert pattern["support"] >= level - 1e-6
            supports.append(pattern["support"])
        assert schema.confidence == pytest.approx(np.mean(supports))
