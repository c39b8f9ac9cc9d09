"""Whether what queries read is what the next start would load."""

from typing import Any

import numpy as np

from dreamsvc import two_stage
from dreamsvc.memory.graph import NEVER, GraphView


def same_as_loaded(live: GraphView, fresh: GraphView) -> None:
    """Equal for queries: of rows that are gone altogether the live graph still has places."""
    there = live.rows_of(fresh.node_ids[: fresh.n].tolist())
    np.testing.assert_array_equal(live.node_ids[there], fresh.node_ids[: fresh.n])
    assert np.count_nonzero(live.alive[: live.n]) == np.count_nonzero(fresh.alive[: fresh.n])
    for name in ("alive", "importance", "created_us", "event_us", "event_end_us", "accessed_us", "roles"):
        np.testing.assert_array_equal(getattr(live, name)[there], getattr(fresh, name)[: fresh.n], name)
    alive = np.flatnonzero(fresh.alive[: fresh.n])
    np.testing.assert_array_equal(merged_into(live, there[alive]), merged_into(fresh, alive))
    same_vectors(live, fresh, there[alive], alive)
    for word in sorted({word for text in ("a b c d e f g h i j", *"xyz") for word in text.split()}):
        np.testing.assert_allclose(
            live.lexical.scores(word, live.n)[there], fresh.lexical.scores(word, fresh.n), rtol=1e-5, err_msg=word
        )
    edges = live.edge_rows_of(fresh.edge_ids[: fresh.m].tolist())
    np.testing.assert_array_equal(live.edge_ids[edges], fresh.edge_ids[: fresh.m])
    assert np.count_nonzero(live.edges_alive[: live.m]) == np.count_nonzero(fresh.edges_alive[: fresh.m])
    for name in ("edges_alive", "types"):
        np.testing.assert_array_equal(getattr(live, name)[edges], getattr(fresh, name)[: fresh.m], name)
    shown = np.flatnonzero(fresh.edges_alive[: fresh.m])
    for name in ("weights", "confidences"):
        np.testing.assert_array_equal(getattr(live, name)[edges[shown]], getattr(fresh, name)[shown], name)
    assert superseded(live) == superseded(fresh)


def merged_into(view: GraphView, rows: Any) -> list[int]:
    return [NEVER if into == NEVER else int(view.node_ids[into]) for into in view.merged_into[rows].tolist()]


def superseded(view: GraphView) -> dict[int, int]:
    return {int(view.node_ids[older]): int(view.node_ids[newer]) for older, newer in view.superseded_by.items()}


def same_vectors(live: GraphView, fresh: GraphView, ours: Any, theirs: Any) -> None:
    known = [view.dense.slots[rows] >= 0 for view, rows in ((live, ours), (fresh, theirs))]
    np.testing.assert_array_equal(*known)
    if fresh.dense.dimension:
        found = [two_stage.vectors_of(view.dense, rows) for view, rows in ((live, ours), (fresh, theirs))]
        np.testing.assert_allclose(*found, atol=1e-6)
