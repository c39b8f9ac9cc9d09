"""Time and chance, each in its one room."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsvc import clock, entropy
from dreamsvc.clock import Clock

# The years 1 to 9999.
FIRST = -62_135_596_800_000_000
LAST = 253_402_300_799_999_999
moments = st.integers(FIRST, LAST) | st.sampled_from([FIRST, LAST, -1, 0, 1, 1_699_999_999_999_999])


@given(moments)
def test_a_moment_as_text_reads_back_exactly(us: int) -> None:
    text = clock.iso(us)
    assert clock.from_iso(text) == us
    assert len(text) == len("2026-01-01T00:00:00.000000Z")


@given(moments)
def test_a_moment_as_timestamp_reads_back_exactly(us: int) -> None:
    stamp = clock.to_timestamp(us)
    assert 0 <= stamp.nanos < 1_000_000_000
    assert clock.from_timestamp(stamp) == us
    assert stamp.ToJsonString()


def test_texts_of_other_zones_are_the_same_moment() -> None:
    assert clock.from_iso("2026-03-01T10:00:00+02:00") == clock.from_iso("2026-03-01T08:00:00Z")
    assert clock.from_iso("2026-03-01") == clock.from_iso("2026-03-01T00:00:00Z")
    for text in ("", "yesterday", "2026-13-01", "2026-03-01T25:00"):
        with pytest.raises(ValueError):
            clock.from_iso(text)


def test_the_clocks_go_on() -> None:
    now = Clock()
    assert abs(now.now_us() - datetime.now(UTC).timestamp() * 1e6) < 5e6
    assert now.monotonic() <= now.monotonic()
    assert clock.precise_s() < clock.precise_s() + 1


def test_the_sleep_of_the_machine_only_grows_and_is_no_noise() -> None:
    now = Clock()
    before = now.asleep()
    assert before > -1
    assert abs(now.asleep() - before) < 1
    assert now.kept_us() <= now.now_us()


def test_ids_by_time_are_in_the_order_of_time_and_never_the_same() -> None:
    ids = [entropy.uuid7(us) for us in range(0, 10_000_000, 1000)]
    assert ids == sorted(ids)
    assert len({entropy.uuid7(5) for _ in range(1000)}) == 1000
    assert {(text[14], text[19] in "89ab") for text in ids} == {("7", True)}


def test_ids_of_names_are_the_same_everywhere() -> None:
    assert entropy.uuid_for("default", "k1") == entropy.uuid_for("default", "k1")
    assert entropy.uuid_for("default", "k1") != entropy.uuid_for("defaultk", "1")
    assert entropy.uuid_for("a", "b")[14] == "8"


@given(st.text(max_size=40) | st.uuids().map(str))
def test_what_is_no_uuid_has_no_bytes_and_what_is_one_reads_back(text: str) -> None:
    raw = entropy.uuid_bytes(text)
    if raw is not None and text.count("-") == 4:
        assert entropy.uuid_text(raw) == text.lower()


def test_seeds_fit_and_differ_and_trace_ids_are_32_hex_digits() -> None:
    seeds = {entropy.seed() for _ in range(100)}
    assert len(seeds) == 100
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert len(bytes.fromhex(entropy.trace_id())) == 16
