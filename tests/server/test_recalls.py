"""What is remembered of recalls, how many and for how long."""

from dreamsvc.server.recalls import Recalls


def test_a_recall_is_known_in_its_space_alone() -> None:
    recalls = Recalls()
    recalls.note("r", "one", [7, 3, 1 << 40], now_s=0)
    assert recalls.returned("r", "one", now_s=1) == {7, 3, 1 << 40}
    assert recalls.returned("r", "other", now_s=1) is None
    assert recalls.returned("s", "one", now_s=1) is None


def test_a_recall_without_hits_is_known_too() -> None:
    recalls = Recalls()
    recalls.note("r", "one", [], now_s=0)
    assert recalls.returned("r", "one", now_s=0) == frozenset()


def test_old_recalls_are_let_go_after_an_hour() -> None:
    recalls = Recalls()
    recalls.note("old", "one", [1], now_s=0)
    recalls.note("new", "one", [2], now_s=1800)
    assert recalls.returned("old", "one", now_s=3599) == {1}
    assert recalls.returned("old", "one", now_s=3600) is None
    assert recalls.returned("new", "one", now_s=3600) == {2}
    recalls.note("newest", "one", [3], now_s=9000)
    assert len(recalls) == 1


def test_of_too_many_the_oldest_are_let_go() -> None:
    recalls = Recalls(kept=3)
    for number in range(5):
        recalls.note(str(number), "one", [number], now_s=0)
    assert [recalls.returned(str(number), "one", now_s=0) for number in range(5)] == [None, None, {2}, {3}, {4}]
