import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc.dreamer import clusters, merging, nearest
from dreamsvc.dreamer.clusters import TightPlan, TopicPlan, tight_clusters, topic_clusters
from dreamsvc.dreamer.merging import Edges, Step
from dreamsvc.dreamer.nearest import nearest_rows

NOBODY: list[tuple[int, int]] = []
TIGHT = TightPlan(coupling_threshold=0.7, merge_similarity=0.9, cap=10)
TOPIC = TopicPlan(target=1, cap=10, rounds=2, floor=0.4, edge_bonus=0.2, nearest=12)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def groups(seed: int, sizes: list[int], dim: int = 64, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Rows around one centre a group, and the group of each; shuffled."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = unit(rng.standard_normal((len(sizes), dim)))
    return unit(centres[group] + noise / np.sqrt(dim) * rng.standard_normal((len(group), dim))), group


def edges_of(*triples: tuple[int, int, float]) -> Edges:
    src, dst, weight = zip(*triples, strict=True) if triples else ((), (), ())
    return Edges(np.array(src, np.int64), np.array(dst, np.int64), np.array(weight, np.float32))


def together(left: Edges, right: Edges) -> Edges:
    return Edges(*(np.concatenate(columns) for columns in zip(left, right, strict=True)))


def whole(group: np.ndarray, weight: float = 0.9) -> Edges:
    """Every row tied to every other of its group."""
    src, dst = np.nonzero(np.triu(group[:, None] == group, 1))
    return Edges(src, dst, np.full(len(src), weight, np.float32))


def result(search):
    while True:
        try:
            assert isinstance(next(search), Step)
        except StopIteration as end:
            return end.value


def done(search) -> list[list[int]]:
    return [rows.tolist() for rows in result(search)]


def forbidding(pairs):
    """A guard against these pairs of rows."""
    against = {tuple(pair) for a, b in np.asarray(pairs).reshape(-1, 2).tolist() for pair in ((a, b), (b, a))}

    def refuses(left, right):
        yield Step("asked", 0, 1)
        return any((a, b) in against for a in left.tolist() for b in right.tolist())

    return refuses


def tight(vectors, edges, pairs=NOBODY, plan=TIGHT, unit=None):
    unit = np.arange(len(vectors)) if unit is None else np.array(unit)
    return done(tight_clusters(vectors, unit, edges, forbidding(pairs), plan))


def topics(vectors, edges, pairs=NOBODY, plan=TOPIC, unit=None, lots=None, seed=0):
    unit = np.arange(len(vectors)) if unit is None else np.array(unit)
    lots = np.zeros(unit.max(initial=-1) + 1, np.int64) if lots is None else np.array(lots)
    return done(topic_clusters(vectors, unit, lots, edges, forbidding(pairs), plan, seed=seed))


def by_group(group: np.ndarray) -> list[list[int]]:
    return sorted(np.flatnonzero(group == g).tolist() for g in np.unique(group))


def mean_cosine(vectors: np.ndarray, rows: list[int]) -> float:
    inside = vectors[rows].astype(np.float64)
    return float((inside @ inside.T)[np.triu_indices(len(rows), 1)].mean())


# ── tight ───────────────────────────────────────────────────────────────────────


def test_groups_that_are_coupled_and_alike_are_found():
    vectors, group = groups(0, [2, 3, 5, 10, 7])
    loose = edges_of(*[(i, (i + 1) % 27, 0.9) for i in range(27)])  # ties between the groups, whose vectors differ
    assert tight(vectors, together(whole(group), loose)) == by_group(group)


@pytest.mark.parametrize(("coupling", "noise"), [(0.69, 0.3), (0.9, 0.9)])
def test_what_is_coupled_too_little_or_not_alike_stays_apart(coupling, noise):
    vectors, group = groups(1, [4, 4], noise=noise)
    assert tight(vectors, whole(group, coupling)) == []


def test_a_group_beyond_the_cap_is_taken_apart():
    vectors, group = groups(2, [25, 4], noise=0.2)
    found = tight(vectors, whole(group))
    assert max(map(len, found)) <= TIGHT.cap
    assert by_group(group)[[len(g) for g in by_group(group)].index(4)] in found
    assert sum(map(len, found)) >= 27
    assert all(len({group[row] for row in rows}) == 1 for rows in found)


def test_forbidden_pairs_end_up_in_two_clusters():
    vectors, group = groups(3, [6])
    found = tight(vectors, whole(group), np.array([[0, 1], [4, 2]]))
    homes = {row: number for number, rows in enumerate(found) for row in rows}
    assert homes.get(0, -1) != homes.get(1, -2)
    assert homes.get(4, -1) != homes.get(2, -2)
    assert sum(map(len, found)) >= 5


def test_a_chain_of_likenesses_is_not_one_cluster():
    # Each is alike its neighbour (cosine .95), the ends are far apart (cosine -.6).
    angle = np.arange(8) * np.arccos(0.95)
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    found = tight(vectors, edges_of(*[(i, i + 1, 1.0) for i in range(7)]))
    assert found
    assert all(mean_cosine(vectors, rows) >= 0.9 for rows in found)


def test_a_component_too_large_for_one_native_call_is_cut(monkeypatch):
    monkeypatch.setattr(clusters, "NATIVE_EDGES", 60)
    vectors, group = groups(4, [8] * 30, dim=16, noise=0.05)
    rng = np.random.default_rng(0)
    weak = edges_of(*[(int(a), int(b), 0.71) for a, b in zip(*rng.permutation(240).reshape(2, -1), strict=True)])
    everything = TightPlan(coupling_threshold=0.7, merge_similarity=-1.0, cap=10)
    calls: list[int] = []
    inner = clusters._communities
    monkeypatch.setattr(clusters, "_communities", lambda e, d: calls.append(len(e.src)) or inner(e, d))
    found = tight(vectors, together(whole(group), weak), plan=everything)
    assert max(calls) <= 60
    alike = sum(len({group[row] for row in rows}) == 1 for rows in found)
    assert alike >= 0.9 * len(found)
    assert sum(map(len, found)) >= 230


def test_a_component_of_equal_edges_can_be_cut_too(monkeypatch):
    monkeypatch.setattr(clusters, "NATIVE_EDGES", 10)
    vectors, group = groups(5, [20])
    found = tight(vectors, whole(group))
    assert all(len(rows) <= 10 for rows in found)


def test_of_two_edges_between_the_same_two_the_stronger_counts():
    # A chain of three at the threshold is no community, for one of its three pairs is not joined. Added up, the two
    # edges of each pair would make it one.
    vectors = unit(np.array([[1, 0.0], [1, 0.1], [1, 0.2]]))
    twice = edges_of((0, 1, 0.7), (0, 1, 0.7), (1, 2, 0.7), (2, 1, 0.7))
    assert tight(vectors, twice) in ([[0, 1]], [[1, 2]])


def test_a_unit_of_several_rows_is_clustered_by_all_of_them():
    # Unit 0 holds rows 0 and 1, which are far apart: unit 1 is near one of them, and not near their mean.
    vectors = unit(np.array([[1, 0, 0], [0, 1, 0], [1, 0.05, 0], [0, 0, 1], [0, 0.05, 1]]))
    unit_of = [0, 0, 1, 2, 3]
    strong = edges_of((0, 1, 1.0), (2, 3, 1.0))
    assert tight(vectors, strong, unit=unit_of) == [[2, 3]]
    assert tight(vectors, strong, plan=TIGHT._replace(merge_similarity=0.3), unit=unit_of) == [[0, 1], [2, 3]]


def test_a_unit_is_refused_for_any_of_its_rows():
    vectors, _ = groups(7, [6])
    unit_of = [0, 0, 1, 2, 3, 3]
    found = tight(vectors, whole(np.zeros(4)), [(1, 5)], unit=unit_of)
    assert not any({0, 3} <= set(rows) for rows in found)
    assert sum(map(len, found)) >= 3


def test_without_edges_nothing_is_tight():
    vectors, _ = groups(6, [5])
    assert tight(vectors, edges_of()) == []
    assert tight(vectors[:0], edges_of()) == []


# ── topics ──────────────────────────────────────────────────────────────────────


def test_topics_are_found_and_every_row_is_in_one():
    vectors, group = groups(10, [10] * 40, noise=0.7)
    assert topics(vectors, edges_of(), plan=TOPIC._replace(target=40)) == sorted(by_group(group))


def test_merging_stops_at_the_target():
    vectors, _ = groups(11, [10] * 40, noise=0.7)
    for count in (200, 100, 400):
        assert len(topics(vectors, edges_of(), plan=TOPIC._replace(target=count))) == count


def test_the_most_alike_merge_first():
    angle = np.array([0, 0.1, 1.0, 1.3, 3.0])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    for target, expected in ((4, [[0, 1], [2], [3], [4]]), (3, [[0, 1], [2, 3], [4]])):
        assert topics(vectors, edges_of(), plan=TOPIC._replace(target=target)) == expected


def test_an_edge_decides_between_two_equally_near():
    vectors = unit(np.array([[1, 0, 0], [1, 0.6, 0], [1, 0, 0.6], [-1, 0, 0]]))
    plan = TOPIC._replace(target=3)
    for friend in (1, 2):
        found = topics(vectors, edges_of((friend, 0, 0.8)), plan=plan)
        assert [0, friend] in found


def test_an_edge_is_no_reason_to_merge_what_is_farther_than_the_floor():
    vectors = unit(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]]))
    found = topics(vectors, edges_of((0, 1, 1.0)), plan=TOPIC._replace(edge_bonus=5.0))
    assert found == [[0], [1], [2]]


def test_only_units_of_one_lot_merge():
    vectors, _ = groups(19, [12], noise=0.3)
    lots = [0, 1, 2] * 4
    found = topics(vectors, together(edges_of((0, 1, 1.0)), whole(np.zeros(12))), lots=lots)
    assert found == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_units_of_several_rows_merge_by_the_mean_of_all_rows():
    # Unit 1 holds rows 1 and 2 on either side of row 0; unit 2 is nearer to row 0 than either of them.
    vectors = unit(np.array([[1, 0, 0], [1, 0.2, 0], [1, -0.2, 0], [1, 0.0, 0.15], [0, 0, 1]]))
    plan = TOPIC._replace(target=3)
    assert topics(vectors, edges_of(), unit=[0, 1, 1, 2, 3], plan=plan) == [[0, 2], [1], [3]]
    assert topics(vectors, edges_of(), unit=[0, 1, 1, 2, 3], plan=plan._replace(target=2)) == [[0, 1, 2], [3]]


def test_two_clusters_that_were_refused_are_not_asked_about_again():
    vectors, _ = groups(20, [8], noise=0.2)
    asked: list[tuple[int, int]] = []

    def refuses(left, right):
        yield Step("asked", 0, 1)
        asked.extend((min(a, b), max(a, b)) for a in left.tolist() for b in right.tolist())
        return 0 in left or 0 in right

    once = TOPIC._replace(rounds=1)
    found = done(topic_clusters(vectors, np.arange(8), np.zeros(8, np.int64), edges_of(), refuses, once, seed=0))
    assert found == [[0], [1, 2, 3, 4, 5, 6, 7]]
    # What was refused once is not asked again with more beside it.
    assert len([pair for pair in asked if pair[0] == 0]) <= 7


def test_forbidden_rows_never_meet_in_any_round():
    vectors, _ = groups(12, [30], noise=0.3)
    forbidden = np.array([[0, row] for row in range(1, 30)])
    found = topics(vectors, edges_of(), forbidden, TOPIC._replace(rounds=3))
    assert found[0] == [0]
    assert len(found) == 2


def test_the_cap_holds_a_round_and_the_next_merges_what_it_made():
    vectors, _ = groups(13, [60], noise=0.3)
    once = topics(vectors, edges_of(), plan=TOPIC._replace(rounds=1, cap=4))
    assert max(map(len, once)) == 4
    twice = topics(vectors, edges_of(), plan=TOPIC._replace(rounds=2, cap=4))
    assert 4 < max(map(len, twice)) <= 16


def test_one_row_or_none_is_no_trouble():
    vectors, _ = groups(14, [1])
    assert topics(vectors, edges_of()) == [[0]]
    assert topics(vectors[:0], edges_of()) == []


def greedy_in_float64(vectors, weights, forbidden, plan, target):
    """Average link by the book, over all pairs."""
    parts = [[row] for row in range(len(vectors))]
    cosine = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    while len(parts) > target:
        best = None
        for i, a in enumerate(parts):
            for j in range(i + 1, len(parts)):
                b = parts[j]
                link = cosine[np.ix_(a, b)].mean()
                if len(a) + len(b) > plan.cap or link < plan.floor or forbidden[np.ix_(a, b)].any():
                    continue
                value = link + plan.edge_bonus * weights[np.ix_(a, b)].mean()
                if best is None or value > best[0]:
                    best = (value, i, j)
        if best is None:
            break
        parts[best[1]] += parts.pop(best[2])
    return sorted(sorted(part) for part in parts)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(3, 18), st.integers(1, 12), st.integers(2, 6))
def test_merging_is_average_link_by_the_book(seed, n, target, cap):
    rng = np.random.default_rng(seed)
    vectors = unit(rng.standard_normal((n, 3)))
    weights = np.triu(rng.random((n, n)) * (rng.random((n, n)) < 0.2), 1).astype(np.float32)
    banned = np.triu(rng.random((n, n)) < 0.1, 1)
    src, dst = np.nonzero(weights)
    plan = TopicPlan(target=target, cap=cap, rounds=1, floor=0.2, edge_bonus=0.5, nearest=n)
    found = topics(vectors, Edges(src, dst, weights[src, dst]), np.argwhere(banned), plan)
    expected = greedy_in_float64(vectors, weights + weights.T, banned | banned.T, plan, target)
    assert found == expected


def test_thousands_of_rows_are_found_by_their_cells(monkeypatch):
    monkeypatch.setattr(nearest, "EXACT_ROWS", 1000)
    vectors, group = groups(15, [10] * 300, noise=0.6)
    plan = TOPIC._replace(target=300)
    found = topics(vectors, edges_of(), plan=plan, seed=1)
    assert len(found) <= 1.05 * 300
    assert sum(len({group[row] for row in rows}) == 1 for rows in found) >= 0.95 * len(found)
    assert found == topics(vectors, edges_of(), plan=plan, seed=1)


def test_nearest_rows_are_exact_below_the_limit_and_nearly_so_beyond(monkeypatch):
    vectors, _ = groups(16, [10] * 200, noise=0.8)

    def pairs() -> set[tuple[int, int]]:
        edges = result(nearest_rows(vectors, 5, 0.3, seed=0))
        assert not edges.weight.any()
        return set(zip(edges.src.tolist(), edges.dst.tolist(), strict=True))

    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -1)
    best = np.argsort(-cosine, axis=1)[:, :5]
    wanted = {(i, int(j)) for i in range(len(vectors)) for j in best[i] if cosine[i, j] >= 0.3}
    exact = pairs()
    assert len(exact ^ wanted) <= 2
    monkeypatch.setattr(nearest, "EXACT_ROWS", 500)
    assert len(pairs() & wanted) >= 0.95 * len(wanted)


def test_identical_rows_by_the_thousand_stay_bounded(monkeypatch):
    monkeypatch.setattr(nearest, "EXACT_ROWS", 1000)
    monkeypatch.setattr(nearest, "WINDOW_ROWS", 128)
    vectors = np.repeat(unit(np.ones((1, 8))), 1500, axis=0)
    found = topics(vectors, edges_of())
    assert sorted(row for rows in found for row in rows) == list(range(1500))
    assert len(found) <= 300


def test_pairs_are_joined_whatever_the_chunks(monkeypatch):
    rng = np.random.default_rng(17)
    edges = Edges(rng.integers(0, 40, 300), rng.integers(0, 40, 300), rng.random(300, dtype=np.float32))
    dense = np.zeros((40, 40))
    np.add.at(dense, (edges.src, edges.dst), edges.weight)
    dense = dense + dense.T
    np.fill_diagonal(dense, 0)
    for size in (100_000, 50, 7):
        monkeypatch.setattr(merging, "SORTED", size)
        pairs = result(merging.joined([edges.at(slice(0, 120)), edges.at(slice(120, 300))], 40))
        rows = np.repeat(np.arange(40), np.diff(pairs.indptr))
        assert list(zip(rows, pairs.neighbour, strict=True)) == [tuple(p) for p in np.argwhere(dense).tolist()]
        np.testing.assert_allclose(pairs.weight, dense[rows, pairs.neighbour], rtol=1e-5)
