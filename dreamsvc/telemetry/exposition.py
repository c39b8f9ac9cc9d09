"""The only importer of prometheus_client: counts and gauges as Prometheus reads them (REQ-DREAM-021, API-12).

Imported when somebody asks for metrics for the first time, so that a start does not wait for it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import override

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as OpenMetricsExemplar

from dreamsvc.telemetry.counts import Counts
from dreamsvc.telemetry.gauges import Account, Gauges, SpaceGauges
from dreamsvc.telemetry.histogram import Bucket, Histogram
from dreamsvc.telemetry.night_metrics import NIGHT_COUNTERS, night_gauges
from dreamsvc.v1.dream_pb2 import Dream

PREFIX = "dreamsvc"
PAGE_BYTES = 4096


class Exposition:
    """Turns counts into what a scrape gets; has a registry of its own."""

    def __init__(self, counts: Counts) -> None:
        self._collector = _Collected(counts)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._collector)
        ProcessCollector(namespace=PREFIX, registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self, gauges: Gauges, accept: str) -> tuple[bytes, str]:
        """The body and its content type, in the format that the Accept header asks for; in any thread."""
        self._collector.gauges = gauges
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Collected(Collector):
    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self.gauges: Gauges | None = None

    @override
    def collect(self) -> Iterable[Metric]:
        if self.gauges is None:
            return
        yield InfoMetricFamily(f"{PREFIX}_build", "What runs.", {"version": self.gauges.version})
        yield _gauge("start_time_seconds", "When the service started, Unix time.", self.gauges.started_s)
        yield from self._of_calls()
        yield from self._of_nights(sorted(self.gauges.spaces))
        yield from _of_spaces(self.gauges)
        yield from _of_store(self.gauges)
        yield from _of_subsystems(self.gauges)
        yield from _of_account(self.gauges.account)

    def _of_calls(self) -> Iterator[Metric]:
        counts = self._counts
        calls = CounterMetricFamily(f"{PREFIX}_calls", "Calls by method and gRPC code.", labels=["method", "code"])
        for (method, code), number in sorted(counts.calls.items()):
            calls.add_metric([method, code], number)
        yield calls
        errors = CounterMetricFamily(
            f"{PREFIX}_call_errors", "Calls that failed, by reason of the error catalogue.", labels=["method", "reason"]
        )
        for key, number in sorted(counts.errors.items()):
            errors.add_metric(list(key), number)
        yield errors
        yield _histogram("call_duration_seconds", "Time of a call, streams to their end.", "method", counts.call_s)
        flying = GaugeMetricFamily(f"{PREFIX}_calls_in_flight", "Calls that are being answered.", labels=["method"])
        for method, number in sorted(counts.in_flight.items()):
            flying.add_metric([method], number)
        yield flying
        watchers = sum(number for method, number in counts.in_flight.items() if method.endswith("/StreamStatus"))
        yield _gauge("watchers", "Streams that follow dreams.", watchers)

    def _of_nights(self, spaces: Sequence[str]) -> Iterator[Metric]:
        counts = self._counts
        wakes = CounterMetricFamily(f"{PREFIX}_wakes", "Dreams that were woken, by reason.", labels=["reason"])
        for reason, number in sorted(counts.wakes.items()):
            wakes.add_metric([reason], number)
        yield wakes
        yield _histogram(
            "wake_latency_seconds", "From the call that woke a dream until the space is awake.", "", {"": counts.wake_s}
        )
        yield _counter("dreamers_killed", "Dreamers that missed the wake budget and were killed.", counts.kills)
        yield _counter("checkpoints", "Checkpoints of dreams that were kept.", counts.checkpoints)
        nights = CounterMetricFamily(
            f"{PREFIX}_nights",
            "Nights by how they ended and who began them; one that is woken and goes on counts each time.",
            labels=["state", "triggered_by"],
        )
        for end, number in sorted(counts.nights.items()):
            nights.add_metric(list(end), number)
        yield nights
        ends = CounterMetricFamily(f"{PREFIX}_night_end_reasons", "Nights by why they ended.", labels=["reason"])
        for reason, number in sorted(counts.end_reasons.items()):
            ends.add_metric([reason], number)
        yield ends
        faults = CounterMetricFamily(
            f"{PREFIX}_night_faults", "Errors that nights got over, by what followed.", labels=["recovery"]
        )
        for recovery, number in sorted(counts.faults.items()):
            faults.add_metric([recovery], number)
        yield faults
        yield _histogram("night_duration_seconds", "Time of a night that succeeded.", "phase", counts.night_s)
        for key, (name, help_text) in NIGHT_COUNTERS.items():
            family = CounterMetricFamily(f"{PREFIX}_{name}", help_text, labels=["space"])
            for space in spaces:
                family.add_metric([space], counts.dreamed[space][key])
            yield family


def _of_spaces(gauges: Gauges) -> Iterator[Metric]:
    plain: tuple[tuple[str, str, Callable[[SpaceGauges], float | None]], ...] = (
        ("memories", "Memories that recall may answer with.", lambda s: s.memories),
        ("edges", "Edges that are not pruned.", lambda s: s.edges),
        ("news", "1 where something was remembered or recalled since the last night.", lambda s: s.news),
        ("since_night_seconds", "Time since the last night ended; absent where none has.", lambda s: s.since_night_s),
        (
            "cooldown_seconds",
            "Time until a dream may start by itself for all that the last says.",
            lambda s: s.cooldown_s,
        ),
        ("activity", "Calls a second by users, decaying.", lambda s: s.activity),
    )
    for name, help_text, read in plain:
        yield _by_space(name, help_text, {label: read(space) for label, space in gauges.spaces.items()})
    last = {label: night_gauges(space.last or Dream()) for label, space in gauges.spaces.items()}
    for place, one in enumerate(night_gauges(Dream())):
        values = {label: found[place].value for label, found in last.items() if gauges.spaces[label].last is not None}
        yield _by_space(one.name, one.help, values)
    states = GaugeMetricFamily(f"{PREFIX}_spaces", "Spaces by sleep state.", labels=["sleep_state"])
    for state, number in gauges.sleep_states.items():
        states.add_metric([state], number)
    yield states


def _of_store(gauges: Gauges) -> Iterator[Metric]:
    store = gauges.store
    yield _gauge("store_takes_changes", "0 while the store refuses changes: disk, damage.", store.takes_changes)
    yield _gauge("store_size_bytes", "Size of the database.", store.database_bytes)
    yield _gauge("store_log_size_bytes", "Size of its write-ahead log.", store.log_bytes)
    yield _gauge("store_disk_free_bytes", "Free space where the store lies.", store.free_bytes)
    waiting = GaugeMetricFamily(
        f"{PREFIX}_store_writes_waiting", "Writes that wait for the writer.", labels=["priority"]
    )
    for priority, number in store.waiting.items():
        waiting.add_metric([priority], number)
    yield waiting
    dreams = GaugeMetricFamily(f"{PREFIX}_dreams_kept", "Dreams in the history by state.", labels=["state"])
    for state, number in store.dreams.items():
        dreams.add_metric([state], number)
    yield dreams
    yield _gauge("checkpoints_kept", "Checkpoints that dreams can go on from.", store.checkpoints)


def _of_subsystems(gauges: Gauges) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        f"{PREFIX}_subsystem_up", "1 where a subsystem serves; absent where it is off.", labels=["subsystem"]
    )
    for name, serves in gauges.subsystems.items():
        if serves is not None:
            up.add_metric([name], serves)
    yield up
    yield _gauge("dreamers", "Dreamer processes that run.", len(gauges.dreamers))
    resident = sum(_resident_bytes(pid) for pid in gauges.dreamers)
    yield _gauge("dreamers_resident_memory_bytes", "Memory of dreamer processes.", resident)


def _of_account(account: Account) -> Iterator[Metric]:
    help_text = "Share of the GPU, or of all cores, that dreams took in the last second."
    yield _gauge("dream_device_share_ratio", help_text, account.share or 0.0)
    yield _gauge("dream_device_share_limit_ratio", "What they may take (dream.resources.max_gpu_usage).", account.limit)
    yield _gauge("dream_device_share_highest_ratio", "Most in any second since the service started.", account.highest)
    yield _counter("dream_throttles", "Seconds above the limit, after which dreams worked slower.", account.throttles)
    yield _counter("dream_holds", "Times a dreamer was stopped for a moment to stay within the limit.", account.holds)
    yield _counter("dream_pauses", "Times a dream rested because others needed the GPU.", account.pauses)
    yield _counter("dream_readings_unknown", "Measurements of what dreams take that told nothing.", account.unknown)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", help_text, value=value)


def _counter(name: str, help_text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}_{name}", help_text, value=value)


def _by_space(name: str, help_text: str, values: Mapping[str, float | None]) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", help_text, labels=["space"])
    for space, value in values.items():
        if value is not None:
            family.add_metric([space], value)
    return family


def _histogram(name: str, help_text: str, label: str, by_label: Mapping[str, Histogram]) -> Metric:
    """label: '' for a histogram without one, which stands under ''."""
    family = HistogramMetricFamily(f"{PREFIX}_{name}", help_text, labels=[label] if label else [])
    for value, histogram in sorted(by_label.items()):
        buckets = [_bucket(bucket) for bucket in histogram.buckets()]
        family.add_metric([value] if label else [], buckets, histogram.sum)
    return family


def _bucket(bucket: Bucket) -> tuple[str, float] | tuple[str, float, OpenMetricsExemplar]:
    edge = "+Inf" if bucket.edge == float("inf") else repr(bucket.edge)
    if bucket.exemplar is None:
        return edge, bucket.up_to
    shown = OpenMetricsExemplar({"trace_id": bucket.exemplar.trace_id}, bucket.exemplar.value, bucket.exemplar.at_s)
    return edge, bucket.up_to, shown


def _resident_bytes(pid: int) -> int:
    """0 where the process has just ended, or the system has no /proc."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
