"""Metrics, health and readiness of a service after a real dream, and the rules and panels that are made of them."""

import http.client
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from tests.integration.served import CONVERGE, AsProcess, InThread, Tables, refused, until
from tests.integration.villages import villages

pytestmark = pytest.mark.integration

MONITORING = Path(__file__).resolve().parent.parent.parent / "monitoring"
RULES = [rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """Status, body and content type."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers["Content-Type"]
    finally:
        connection.close()


def samples(port: int) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Values by name and labels."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(get(port, "/metrics")[1]):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def metrics_on(port: int) -> Tables:
    return {"telemetry": {"metrics_port": port, "metrics_spaces": 2}}


@pytest.fixture(scope="module")
def measured() -> Iterator[tuple[InThread, int]]:
    """A service that has dreamed, was woken, and has refused a call."""
    port = free_port()
    quick: Tables = {"dream": {"resources": {"max_gpu_usage": 1.0}, "quality": {"probe_cues": 100}}}
    with InThread(":memory:", CONVERGE, quick, metrics_on(port)) as service:
        calls = service.calls
        calls.remember("default", villages())
        calls.recall("default", "village")
        dream = calls.trigger("default", phase=dream_pb2.DREAM_PHASE_FULL_CYCLE).dream
        assert calls.ended("default", dream.id).state == Dream.STATE_SUCCEEDED
        for space in ("second", "third", "fourth"):
            calls.remember(space)
        calls.trigger("second")
        calls.abort("second")
        refused(lambda: calls.dream("default", "no such dream"))
        yield service, port


def test_a_scrape_tells_what_a_dream_did(measured: tuple[InThread, int]) -> None:
    service, port = measured
    report = service.calls.status("default").last_dream.report
    found = samples(port)
    space = (("space", "default"),)
    assert report.nodes_replayed > 0
    for name, value in {
        "dreamsvc_nrem_memories_replayed_total": report.nodes_replayed,
        "dreamsvc_nrem_edges_strengthened_total": report.edges_strengthened,
        "dreamsvc_nrem_nodes_merged_total": sum(stage.members for stage in report.compression.merging),
        "dreamsvc_rem_synthetic_queries_total": report.exploration.queries,
        "dreamsvc_rem_blind_spots_found_total": report.exploration.verified,
        "dreamsvc_rem_average_semantic_leap": report.exploration.average_semantic_leap,
        "dreamsvc_rem_exploration_coverage_ratio": report.exploration.coverage,
        "dreamsvc_night_information_loss_ratio": report.compression.retention.information_loss,
        "dreamsvc_night_quality_score": report.quality.overall_score,
        "dreamsvc_night_device_share_mean_ratio": report.share.mean,
        "dreamsvc_night_device_share_max_ratio": report.share.max_second,
        "dreamsvc_night_peak_memory_bytes": report.share.max_memory_bytes,
    }.items():
        assert found[name][space] == pytest.approx(value), name
    assert 0 < report.exploration.coverage <= 1
    assert report.exploration.average_semantic_leap > 0
    assert found["dreamsvc_night_duration_seconds_sum"][("phase", "nrem"),] == pytest.approx(report.nrem_seconds)
    assert report.nrem_seconds + report.rem_seconds == pytest.approx(report.seconds)
    assert min(report.nrem_seconds, report.rem_seconds) > 0
    assert found["dreamsvc_dream_device_share_highest_ratio"][()] >= report.share.max_second > 0
    assert found["dreamsvc_dream_device_share_limit_ratio"][()] == 1
    assert found["dreamsvc_dream_readings_unknown_total"][()] == 0
    assert found["dreamsvc_nights_total"][("state", "succeeded"), ("triggered_by", "request")] == 1
    assert found["dreamsvc_nights_total"][("state", "failed"), ("triggered_by", "idle")] == 0


def test_a_scrape_tells_of_calls_wakes_and_errors(measured: tuple[InThread, int]) -> None:
    _, port = measured
    found = samples(port)
    assert found["dreamsvc_calls_total"][("code", "OK"), ("method", "MemoryService/Recall")] == 1
    assert found["dreamsvc_calls_total"][("code", "NOT_FOUND"), ("method", "DreamService/GetDream")] == 1
    assert found["dreamsvc_call_errors_total"][("method", "DreamService/GetDream"), ("reason", "NOT_FOUND")] == 1
    assert found["dreamsvc_call_duration_seconds_count"][("method", "MemoryService/Remember"),] == 4
    assert found["dreamsvc_wakes_total"][("reason", "manual_abort"),] == 1
    assert found["dreamsvc_wake_latency_seconds_count"][()] == 1


def test_a_scrape_tells_of_spaces_and_the_store_with_few_labels(measured: tuple[InThread, int]) -> None:
    service, port = measured
    found = samples(port)
    assert {dict(labels)["space"] for labels in found["dreamsvc_memories"]} == {"default", "second", "other"}
    assert found["dreamsvc_memories"][("space", "other"),] == 400
    assert found["dreamsvc_memories"][("space", "second"),] == 200
    assert found["dreamsvc_spaces"][("sleep_state", "awake"),] == 4
    assert found["dreamsvc_store_takes_changes"][()] == 1
    assert found["dreamsvc_store_size_bytes"][()] > 0
    assert found["dreamsvc_dreams_kept"][("state", "succeeded"),] == 1
    assert found["dreamsvc_dreams_kept"][("state", "suspended"),] == 1
    assert found["dreamsvc_news"][("space", "default"),] == 0
    assert found["dreamsvc_subsystem_up"][("subsystem", "dreamer"),] == 1
    assert ("subsystem", "embedder") not in {pair for labels in found["dreamsvc_subsystem_up"] for pair in labels}
    assert found["dreamsvc_dreamers_resident_memory_bytes"][()] > 50e6
    assert found["dreamsvc_process_resident_memory_bytes"][()] > 50e6
    assert service.calls.status("second").suspended_dream.id


def test_a_stream_counts_as_a_watcher_for_as_long_as_it_lasts(measured: tuple[InThread, int]) -> None:
    service, port = measured
    stream = service.calls.watch("fourth")
    next(stream)
    assert samples(port)["dreamsvc_watchers"][()] == 1
    stream.cancel()  # pyright: ignore
    until(lambda: samples(port)["dreamsvc_watchers"][()] == 0)
    assert samples(port)["dreamsvc_calls_total"][("code", "CANCELLED"), ("method", "DreamService/StreamStatus")] == 1


def test_open_metrics_carry_the_trace_of_a_call_in_each_bucket(measured: tuple[InThread, int]) -> None:
    _, port = measured
    status, body, content_type = get(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert (status, content_type.partition(";")[0]) == (200, "application/openmetrics-text")
    assert re.search(
        r'call_duration_seconds_bucket\{le="[^"]+",method="[^"]+"\} .* # \{trace_id="[0-9a-f]{32}"\}', body
    )
    assert body.endswith("# EOF\n")


def test_every_name_is_ours_and_says_its_unit(measured: tuple[InThread, int]) -> None:
    _, port = measured
    families = list(text_string_to_metric_families(get(port, "/metrics")[1]))
    assert all(family.name.startswith(("dreamsvc_", "python_gc_")) for family in families)
    assert all(family.documentation for family in families)
    assert not [family.name for family in families if re.search(r"_(ms|milliseconds|kb|mb|percent)(_|$)", family.name)]


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def test_rules_and_panels_name_only_metrics_that_there_are(measured: tuple[InThread, int]) -> None:
    _, port = measured
    known = samples(port).keys() | {rule["record"] for rule in RULES if "record" in rule}
    asked = {
        (where, name) for where, text in expressions() for name in re.findall(r"\b(?:dreamsvc|python)[_:]\w+", text)
    }
    assert len(asked) > 50
    assert sorted(pair for pair in asked if pair[1] not in known) == []


def test_every_label_that_is_asked_for_is_one(measured: tuple[InThread, int]) -> None:
    _, port = measured
    labels = {name: {key for found in values for key, _ in found} for name, values in samples(port).items()}
    for where, text in expressions():
        for name, selector in re.findall(r"\b(dreamsvc_\w+)\{([^}]*)\}", text):
            asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) - {"job", "instance"}
            assert asked <= labels[name], f"{where}: {name}"


def test_every_metric_of_ours_has_a_panel(measured: tuple[InThread, int]) -> None:
    _, port = measured
    shown = {name for _, text in expressions() for name in re.findall(r"\bdreamsvc_\w+", text)}
    families = {family.name for family in text_string_to_metric_families(get(port, "/metrics")[1])}
    ours = {name for name in families if name.startswith("dreamsvc_") and not name.startswith("dreamsvc_process_")}
    unseen = {name for name in ours if not any(one.startswith(name) for one in shown)}
    assert unseen == set()


def test_rules_have_what_a_person_who_is_woken_needs() -> None:
    alerts = [rule for rule in RULES if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) >= 12
    for rule in alerts:
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert {"summary", "description"} <= rule["annotations"].keys(), rule["alert"]


def test_expressions_are_whole() -> None:
    for where, text in expressions():
        for opened, closed in ("()", "[]", "{}"):
            assert text.count(opened) == text.count(closed), where
        assert text.count('"') % 2 == 0, where


def test_panels_lie_beside_each_other_and_each_has_a_place_of_its_own() -> None:
    taken: set[tuple[int, int]] = set()
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        x, y, width, height = (panel["gridPos"][key] for key in "xywh")
        cells = {(x + i, y + j) for i in range(width) for j in range(height)}
        assert x + width <= 24, panel["title"]
        assert not taken & cells, panel["title"]
        taken |= cells
        refs = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(refs)) == len(refs), panel["title"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", str(MONITORING / "alerts.yml")], check=True, capture_output=True)
    subprocess.run(["promtool", "check", "config", str(MONITORING / "prometheus.yml")], check=True, capture_output=True)


def test_health_and_readiness_answer_and_everything_else_is_refused(measured: tuple[InThread, int]) -> None:
    _, port = measured
    assert get(port, "/healthz")[:2] == (200, "ok\n")
    assert get(port, "/readyz?verbose=1")[:2] == (200, "ready\n")
    assert get(port, "/")[0] == 404
    assert get(port, "/metrics/../etc/passwd")[0] == 404
    for method in ("POST", "PUT", "DELETE", "HEAD"):
        assert get(port, "/metrics", method)[0] == 405


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000, b"431"),
    ],
    ids=["no request", "no version", "a head without an end"],
)
def test_what_is_no_request_is_refused(measured: tuple[InThread, int], sent: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", measured[1]), timeout=10) as connection:
        connection.sendall(sent)
        assert connection.recv(100).split()[1] == status


def test_whoever_asks_slowly_or_goes_away_is_in_nobodys_way(measured: tuple[InThread, int]) -> None:
    _, port = measured
    slow = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(8)]
    try:
        slow[0].sendall(b"GET /met")
        assert get(port, "/healthz")[0] == 200
    finally:
        for connection in slow:
            connection.close()
    assert get(port, "/healthz")[0] == 200


def test_a_service_listens_for_nobody_unless_a_port_is_named(tmp_path: Path) -> None:
    with InThread(tmp_path / "memory.db") as service:
        assert service.app._measuring is None


def test_a_port_that_is_taken_keeps_the_service_from_starting_and_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(AssertionError, match=r"telemetry\.metrics_port: is \d+; cannot listen"):
            AsProcess(tmp_path / "memory.db", metrics_on(taken.getsockname()[1]))


def test_the_service_is_not_ready_while_it_shuts_down(tmp_path: Path) -> None:
    port = free_port()
    with InThread(tmp_path / "memory.db", metrics_on(port)) as service:
        service.app._why_not_ready = "shutting down"
        assert get(port, "/readyz")[:2] == (503, "shutting down\n")
        assert get(port, "/healthz")[0] == 200


def test_what_a_night_came_to_is_told_after_a_restart_too(tmp_path: Path) -> None:
    port = free_port()
    with InThread(tmp_path / "memory.db", CONVERGE, metrics_on(port)) as service:
        service.calls.remember("default")
        service.calls.ended("default", service.calls.trigger("default").dream.id)
        before = samples(port)["dreamsvc_night_busy_ratio"]
    with InThread(tmp_path / "memory.db", CONVERGE, metrics_on(port)):
        assert samples(port)["dreamsvc_night_busy_ratio"] == before
        assert samples(port)["dreamsvc_nrem_memories_replayed_total"][("space", "default"),] == 0
        assert samples(port)["dreamsvc_since_night_seconds"][("space", "default"),] >= 0


def test_json_logs_are_one_object_a_line_with_the_dream_it_is_about(tmp_path: Path) -> None:
    store = tmp_path / "memory.db"
    with AsProcess(store, CONVERGE, {"telemetry": {"log_format": "json"}}) as server:
        server.calls.remember("default")
        dream = server.calls.trigger("default").dream
        server.calls.ended("default", dream.id)
        lines = [json.loads(line) for line in server.end().splitlines()]
    begun, ended = [line for line in lines if "dream_id" in line]
    assert begun["message"] == f"dream {dream.id} begins or goes on, triggered by request"
    assert ended["message"].startswith(f"dream {dream.id} succeeded after")
    for about_dream in (begun, ended):
        assert (about_dream["space"], about_dream["trace_id"]) == ("default", dream.id.replace("-", ""))
    assert {line["level"] for line in lines} == {"info"}
