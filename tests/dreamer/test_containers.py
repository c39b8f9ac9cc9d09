import numpy as np
import pytest

from dreamsvc import config as configs
from dreamsvc import two_stage
from dreamsvc.dreamer.consolidation import Cluster, cohesion_of
from dreamsvc.dreamer.containers import build, build_all
from dreamsvc.facet_codes import decode_centroid, decode_facets
from dreamsvc.v1.dream_pb2 import MERGE_STAGE_TOPIC
from tests.dreamer.remembered import remembered, result, unit

TEXTS = ["Anna flies to Oslo.", "Ben paints boats.", "Anna has a flight to Oslo.", "Cleo bakes bread.", "Dan drives."]


def cluster(rows, replaces=()) -> Cluster:
    return Cluster(
        stage=MERGE_STAGE_TOPIC,
        rows=np.array(rows, np.int64),
        replaces=np.array(replaces, np.int64),
        folds=(),
        units=len(rows),
        tight=(),
        cohesion=0.0,
    )


def memories(dim=32):
    vectors = unit(np.ones(dim) + 0.8 * np.random.default_rng(0).standard_normal((len(TEXTS), dim)))
    return remembered(TEXTS, vectors=vectors, columns={"titles": ["Oslo", "Boats", "Flight", "Bread", ""]})


def consolidation(bits=4):
    config = configs.defaults().dream.consolidation
    config.facet_bits = bits
    return config


def test_a_container_holds_the_mean_of_its_facets():
    known = memories()
    block = build(known, cluster([0, 2, 3]), 1, consolidation()).block
    mean = known.vectors[[0, 2, 3]].mean(axis=0)
    np.testing.assert_allclose(decode_centroid(block.centroid), mean, atol=float(block.centroid.scale) / 2 + 1e-7)
    assert block.rows.tolist() == [0, 2, 3]


@pytest.mark.parametrize(("bits", "least"), [(1, 0.9), (2, 0.96), (4, 0.995), (8, 0.9999)])
def test_facets_are_found_again_in_any_number_of_bits(bits, least):
    known = memories(256)
    block = build(known, cluster([0, 1, 2, 3, 4]), 1, consolidation(bits)).block
    assert block.bits == bits
    decoded = decode_facets(block.facets, decode_centroid(block.centroid), bits=block.bits)
    assert (np.einsum("md,md->m", unit(decoded), known.vectors) >= least).all()


def test_what_is_staged_is_what_is_read():
    known = memories()
    built = build(known, cluster([1, 2, 4], replaces=[3]), 9, consolidation())
    message, block = built.message, built.block
    assert message.number == 9
    assert message.stage == MERGE_STAGE_TOPIC
    assert message.members == known.node_ids[[1, 2, 4]].tolist()
    assert message.replaces == [known.node_ids[3]]
    assert message.bits == block.bits == 4
    assert np.array_equal(np.frombuffer(message.centroid, np.int8), block.centroid.codes)
    assert message.centroid_scale == block.centroid.scale
    assert np.array_equal(np.frombuffer(message.codes, np.uint8).reshape(3, -1), block.facets.codes)
    assert np.array_equal(np.frombuffer(message.scales, "<f2"), block.facets.scales)
    assert message.cohesion == pytest.approx(cohesion_of(known.vectors[[1, 2, 4]]))


def test_title_and_text_are_extracts_of_the_members():
    known = memories()
    message = build(known, cluster([0, 1, 2]), 1, consolidation()).message
    assert message.title in {"Oslo", "Boats", "Flight"}
    assert set(message.text.removesuffix(".").split(". ")) <= {text.removesuffix(".") for text in TEXTS[:3]}
    assert "Oslo" in message.text


def test_a_container_of_one_facet_is_that_facet():
    known = memories()
    built = build(known, cluster([2], replaces=[4]), 1, consolidation())
    assert built.message.cohesion == 1.0
    assert built.message.title == "Flight"
    decoded = decode_facets(built.block.facets, decode_centroid(built.block.centroid), bits=built.block.bits)
    assert unit(decoded)[0] @ known.vectors[2] > 0.999


def test_containers_are_numbered_in_order_without_what_is_none():
    known = memories()
    built = result(build_all(known, [cluster([0, 1]), cluster([4]), cluster([2, 3])], consolidation(), first=5))
    assert [one.message.number for one in built] == [5, 6]
    assert [one.cluster.rows.tolist() for one in built] == [[0, 1], [2, 3]]
    again = build(known, cluster([2, 3]), 6, consolidation())
    assert built[1].message == again.message


def test_a_query_finds_a_facet_as_near_as_it_is():
    known = memories(256)
    block = build(known, cluster([0, 1, 2, 3]), 1, consolidation(8)).block
    index = two_stage.assemble(np.array([4]), known.vectors[[4]], {5: block}, 6)
    query = known.vectors[2]
    values = two_stage.score(index, query, 5, opened=1).values
    np.testing.assert_allclose(values, known.vectors @ query, atol=0.01)
