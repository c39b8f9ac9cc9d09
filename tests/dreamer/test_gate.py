import numpy as np
import pytest

from dreamsvc import config, two_stage
from dreamsvc.dreamer.merging import Step
from dreamsvc.dreamer.probes import gate
from dreamsvc.dreamer.probes.self_probe import Cues, Reading
from dreamsvc.facet_codes import decode_centroid, encode_centroid, encode_facets
from tests.dreamer.remembered import remembered, result, unit

RECALL = config.defaults().recall
DIM = 32


class Store:
    """Clusters of memories far from all others, of which the bad ones make their memories unreadable."""

    def __init__(self, clusters, bad, *, each=4, singles=0):
        rng = np.random.default_rng(0)
        tight = rng.standard_normal((clusters, 1, DIM)).repeat(each, axis=1)
        # A bad cluster holds what has little in common.
        spread = np.where(np.isin(np.arange(clusters), bad), 0.9, 0.3)[:, None, None]
        inside = tight + spread * rng.standard_normal(tight.shape)
        self.vectors = unit(np.concatenate([inside.reshape(-1, DIM), rng.standard_normal((singles, DIM))]))
        n = len(self.vectors)
        self.memories = remembered(["some words"] * n, vectors=self.vectors)
        self.clusters = [np.arange(i * each, (i + 1) * each) for i in range(clusters)]
        self.bad = set(bad)
        self.asked: list[frozenset[int]] = []
        self.stands_for = np.arange(n, dtype=np.int32)

    def without(self, dropped):
        """Everything is read but what a bad cluster holds."""
        self.asked.append(dropped)
        yield Step("index", 0, 1)
        lost = [row for place in self.bad - dropped for row in self.clusters[place].tolist()]
        rows = np.setdiff1d(np.arange(len(self.vectors)), lost)
        yield Step("index", 1, 1)
        return two_stage.assemble(rows, self.vectors[rows], {}, len(self.vectors))

    def cues(self, rows=None):
        """Each memory asks for itself, so it is found if and only if it can be read."""
        rows = np.arange(len(self.vectors)) if rows is None else np.asarray(rows, np.int64)
        return Cues(
            golds=rows.astype(np.int32),
            queries=self.vectors[rows],
            found=np.ones(len(rows), np.bool_),
            judges=np.arange(len(rows)) % 2 == 0,
            s=0.0,
            token_budget=2,
            memories=len(self.vectors),
            seed=1,
        )

    def decide(self, bound, cues=None):
        return result(
            gate.decide(
                self.memories,
                self.clusters,
                self.without,
                self.cues() if cues is None else cues,
                self.stands_for,
                RECALL,
                max_information_loss=bound,
            )
        )


def test_a_night_that_loses_little_is_let_in_whole():
    store = Store(50, bad=[7])
    verdict = store.decide(0.15)
    assert verdict.kept == list(range(50))
    assert store.asked == [frozenset()]
    report = verdict.retention
    assert report.information_loss == pytest.approx(0.02)
    assert (report.retries, report.clusters_dropped, report.refused) == (0, 0, False)


def test_a_small_store_that_loses_nothing_may_merge():
    store = Store(3, bad=[])
    assert store.decide(0.15).kept == [0, 1, 2]
    # Though a third of it was never asked about.
    assert store.decide(0.3, store.cues(range(8))).kept == [0, 1, 2]


def test_the_clusters_that_lose_are_dropped_and_the_others_kept():
    bad = [3, 11, 12, 20, 31, 37, 38, 40]
    store = Store(50, bad=bad)
    verdict = store.decide(0.10)
    dropped = set(range(50)) - set(verdict.kept)
    assert len(set(bad) - dropped) <= 2
    assert len(dropped) < 20
    report = verdict.retention
    assert report.measured
    assert not report.refused
    assert report.loss_high <= 0.10
    assert report.clusters_dropped == len(dropped)
    assert report.retries == len(store.asked) - 1 >= 1
    assert store.asked[-1] == dropped


def test_clusters_nobody_asked_about_are_dropped_for_being_loose():
    bad = list(range(0, 60, 4))
    store = Store(60, bad=bad)
    cues = store.cues([row for place in range(30) for row in store.clusters[place].tolist()])
    dropped = set(range(60)) - set(store.decide(0.12, cues).kept)
    unasked = {place for place in dropped if place >= 30}
    assert len(unasked & set(bad)) >= 5
    assert len(unasked - set(bad)) <= 3


def test_cues_that_chose_what_is_dropped_do_not_judge():
    store = Store(50, bad=list(range(0, 50, 2)))
    cues = store.cues()
    verdict = store.decide(0.10, cues)
    assert verdict.retention.retries > 0
    assert verdict.retention.cues == np.count_nonzero(cues.judges)


def test_where_it_does_not_help_to_drop_some_nothing_merges():
    store = Store(40, bad=[])
    # What is lost is lost in no cluster.
    gone = np.arange(40)

    def without(dropped):
        store.asked.append(dropped)
        yield Step("index", 0, 1)
        rows = np.arange(40, 160)
        return two_stage.assemble(rows, store.vectors[rows], {}, 160)

    store.without = without
    verdict = store.decide(0.05)
    assert verdict.kept == []
    report = verdict.retention
    assert report.refused
    assert report.information_loss == pytest.approx(len(gone) / 160, abs=0.03)
    assert report.clusters_dropped == 40
    assert report.retries == len(store.asked) - 1 >= 2
    sizes = [len(dropped) for dropped in store.asked]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] <= gate.MOST_DROPPED * 40


def test_where_nothing_can_be_measured_nothing_merges():
    store = Store(4, bad=[])
    verdict = store.decide(0.15, store.cues([]))
    assert verdict.kept == []
    assert verdict.retention.refused
    assert not verdict.retention.measured


def test_without_clusters_there_is_nothing_to_refuse():
    store = Store(0, bad=[], singles=20)
    verdict = store.decide(0.15)
    assert verdict.kept == []
    assert verdict.retention.measured
    assert not verdict.retention.refused


def test_a_cluster_is_as_risky_as_its_cues_and_its_looseness_say():
    store = Store(4, bad=[2])
    cohesion = result(gate._cohesion(store.memories, store.clusters))
    assert cohesion.argmin() == 2
    rows = np.array([0, 1, 2, 3, 4, 5, 8, 12])
    cues = store.cues(rows)
    found = np.array([0, 0, 1, 1, 1, 1, 1, 1], np.bool_)
    even = np.full(4, 0.5)
    risks = gate._risks(store.clusters, even, cues, Reading(found), store.stands_for)
    # 2 of 8 are lost, which is what each may expect beforehand, with the weight of four cues.
    assert risks == pytest.approx([(2 + 1) / 8, 1 / 6, 1 / 5, 1 / 5])
    risks = gate._risks(store.clusters, cohesion, cues, Reading(found), store.stands_for)
    assert risks[2] > risks[1]


def test_no_more_is_dropped_than_what_is_left_allows():
    sizes = [2] * 10
    risks = np.array([0, 0.4, 0, 0.2, 0.1, 0.1, 0.1, 0.1, 0, 0])
    assert gate._worst(risks, sizes, 0.5, least=1, most=9) == {1, 3}
    assert gate._worst(risks, sizes, 0.35, least=1, most=9) == {1, 3, 4}
    assert gate._worst(risks, sizes, 0.35, least=4, most=9) == {1, 3, 4, 5}
    assert len(gate._worst(risks, sizes, 0.0, least=10, most=9)) == 9


def test_the_gate_holds_for_real_containers():
    store = Store(60, bad=list(range(30)))
    blocks = {}
    for place, rows in enumerate(store.clusters):
        centroid = encode_centroid(store.vectors[rows].mean(axis=0))
        facets = encode_facets(store.vectors[rows], decode_centroid(centroid), bits=4)
        blocks[240 + place] = two_stage.Block(rows.astype(np.int32), facets, 4, centroid)

    def without(dropped):
        yield Step("index", 0, 1)
        rows = np.array([row for place in sorted(dropped) for row in store.clusters[place]], np.int64)
        left = {240 + place: blocks[240 + place] for place in range(60) if place not in dropped}
        return two_stage.assemble(rows, store.vectors[rows], left, 300)

    store.without = without
    assert store.decide(0.15).kept == list(range(60))
