"""Finds are told in few words."""

import numpy as np
import pytest

from tests.dreamer.remembered import remembered
from tests.dreamer.test_blind_spots import found


@pytest.mark.parametrize(
    ("titles", "told"),
    [
        (["Hub", "Port", "Quay"], 'meet at "Hub", "Port", "Quay"'),
        (["Hub", "Port", "Quay", "Dock", "Pier"], 'meet at "Hub", "Port", "Quay" and 2 more'),
        # Titles that tell nothing give way to texts, and what is written alike is named once.
        (["Log", "Log", "Log", "Log", "Pier"], 'meet at "between", "Pier" and 3 more'),
    ],
)
def test_at_most_three_meeting_points_are_named_and_the_others_counted(titles: list[str], told: str) -> None:
    n = 2 + len(titles)
    # The earlier a meeting point, the stronger the edges to it.
    weights = [0.9 - 0.05 * place for place in range(len(titles))]
    edges = [(end, 2 + place, "a", weight) for place, weight in enumerate(weights) for end in (0, 1)]
    memories = remembered(
        ["ask", "tell", *["between"] * len(titles)],
        vectors=np.eye(n),
        edges=edges,
        columns={"titles": ["", "", *titles]},
    )
    spot = next(spot for spot in found(memories).hypotheses if {spot.source, spot.target} == {0, 1})
    assert spot.meeting == list(range(2, n))
    assert spot.evidence == [told]
