"""What a dream may take of a machine without a GPU."""

import pytest

from dreamsvc.dreamer import placement


def test_a_share_of_all_cores_is_as_many_times_that_of_one() -> None:
    assert placement.thread_share(1)(0.3) == pytest.approx(0.3)
    assert placement.thread_share(2)(0.3) == pytest.approx(0.6)
    assert placement.thread_share(16)(0.3) == 1.0
