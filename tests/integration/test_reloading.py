"""The configuration of a running service: read again by whoever asks, taken up at once, or rejected whole."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf import json_format

from dreamsvc import reloading
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.admin_pb2 import ConfigReload, ConfigSource
from dreamsvc.v1.admin_service_pb2 import GetConfigRequest, GetConfigResponse, ReloadConfigRequest
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import GenerateRequest, SimulateRequest
from dreamsvc.v1.memory_pb2 import Memory
from tests.integration.served import (
    BASE,
    AsProcess,
    Calls,
    Configured,
    Tables,
    a_memory,
    as_toml,
    merged,
    refused,
    until,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def service(equal_store: Callable[[str], Path]) -> Iterator[Configured]:
    with Configured(equal_store("reloaded")) as running:
        yield running


def asked(calls: Calls) -> GetConfigResponse:
    return calls.call(calls.admin.GetConfig, GetConfigRequest())


def reloads(calls: Calls, count: ConfigReload.Cause.ValueType) -> ConfigReload | None:
    found = asked(calls)
    return found.last_reload if found.HasField("last_reload") and found.last_reload.cause == count else None


# ── what is taken up ────────────────────────────────────────────────────────────


def test_the_configuration_in_force_is_told_with_where_each_value_comes_from(
    equal_store: Callable[[str], Path],
) -> None:
    environment = {"DREAMSVC_DREAM__NREM__BATCH_SIZE": "32"}
    options = {"server.grace_seconds": ("--grace", 0.5)}
    with Configured(equal_store("told"), environment=environment, options=options) as service:
        found = asked(service.calls)
        assert found.file == str(service.file)
        assert not found.HasField("last_reload")
        assert found.config.dream.nrem.batch_size == 32
        assert found.config.server.grace_seconds == 0.5
        origins = {origin.path: origin for origin in found.origins}
        assert origins["dream.nrem.batch_size"].name == "DREAMSVC_DREAM__NREM__BATCH_SIZE"
        assert origins["server.grace_seconds"].source == ConfigSource.CONFIG_SOURCE_COMMAND_LINE
        assert origins["dream.max_parallel"].source == ConfigSource.CONFIG_SOURCE_FILE
        assert "recall.similar" not in origins
        # They also hold against a changed file.
        done = service.change({"dream": {"nrem": {"batch_size": 7}}, "server": {"grace_seconds": 7.0}})
        assert list(done.changed) == []
        done = service.change({"recall": {"similar": 0.6}})
        assert list(done.changed) == ["recall.similar"]
        assert {origin.path for origin in asked(service.calls).origins} == origins.keys() | {"recall.similar"}


def test_what_needs_a_restart_is_told_and_waits_while_the_rest_is_taken_up(service: Configured) -> None:
    before = asked(service.calls).config
    done = service.change({"server": {"port": 1234, "grace_seconds": 0.7}, "embedder": {"kind": "auto"}})
    assert list(done.changed) == ["server.grace_seconds"]
    assert list(done.needs_restart) == ["embedder.kind", "server.port"]
    found = asked(service.calls)
    assert found.config.server.grace_seconds == 0.7
    assert (found.config.server.port, found.config.embedder.kind) == (before.server.port, "none")
    assert service.calls.status("default").config_notice == "new values wait for a restart: embedder.kind, server.port"
    service.change()
    assert asked(service.calls).config == before
    assert service.calls.status("default").config_notice == ""


def test_a_dry_run_changes_nothing(service: Configured) -> None:
    before = asked(service.calls)
    service.write({"recall": {"similar": 0.6}, "server": {"port": 1}})
    call = service.calls.admin.ReloadConfig
    done = service.calls.call(call, ReloadConfigRequest(validate_only=True)).reload
    assert (list(done.changed), list(done.needs_restart)) == (["recall.similar"], ["server.port"])
    service.file.write_text("[recall]\nsimilar = 7\n")
    assert refused(lambda: service.calls.call(call, ReloadConfigRequest(validate_only=True))).reason == "INVALID_FIELD"
    assert asked(service.calls) == before


# ── what is rejected ────────────────────────────────────────────────────────────

BAD = "[recall]\nsimilar = 7\n[dream.nrem]\nbatch_sise = 1\n[server]\ngrace_seconds = 0.1\n"


def test_a_bad_file_is_rejected_whole_and_the_old_one_stays(
    service: Configured, caplog: pytest.LogCaptureFixture
) -> None:
    before = asked(service.calls).config
    service.file.write_text(BAD)
    refusal = refused(lambda: service.calls.call(service.calls.admin.ReloadConfig, ReloadConfigRequest()))
    assert refusal.reason == "INVALID_FIELD"
    paths = ["dream.nrem.batch_sise"]
    assert [violation.path for violation in refusal.violations] == paths
    found = asked(service.calls)
    assert found.config == before
    assert not found.last_reload.ok
    assert [problem.path for problem in found.last_reload.problems] == paths
    assert found.last_reload.cause == ConfigReload.CAUSE_REQUEST
    notice = service.calls.status("default").config_notice
    assert "rejected" in notice
    assert "did you mean batch_size?" in notice
    assert "dream.nrem.batch_sise" in caplog.text
    service.change()
    assert service.calls.status("default").config_notice == ""


def test_every_mistake_is_remembered_however_many_there_are(service: Configured) -> None:
    names = [f"key_{i}" for i in range(200)]
    service.file.write_text("[recall]\n" + "\n".join(f"{name} = 1" for name in names))
    refusal = refused(lambda: service.calls.call(service.calls.admin.ReloadConfig, ReloadConfigRequest()))
    assert 0 < len(refusal.violations) < 200
    problems = asked(service.calls).last_reload.problems
    assert [problem.path for problem in problems] == [f"recall.{name}" for name in names]


def test_what_would_stand_open_before_or_after_the_restart_is_rejected(service: Configured) -> None:
    service.write({"server": {"host": "0.0.0.0"}})
    refusal = refused(lambda: service.calls.call(service.calls.admin.ReloadConfig, ReloadConfigRequest()))
    assert "server.host" in {violation.path for violation in refusal.violations}
    assert asked(service.calls).config.server.host == "127.0.0.1"


# ── who asks ────────────────────────────────────────────────────────────────────


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "LOOK_S", 0.05)


def replaced(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    os.replace(new, file)


def rewritten(file: Path, text: str) -> None:
    file.write_text(text)


@pytest.mark.parametrize("write", [replaced, rewritten])
def test_a_changed_file_is_seen(quick: None, service: Configured, write: Callable[[Path, str], None]) -> None:
    write(service.file, service.file.read_text() + "[recall]\nsimilar = 0.6\n")
    until(lambda: asked(service.calls).config.recall.similar == 0.6)
    assert reloads(service.calls, ConfigReload.CAUSE_FILE)
    write(service.file, BAD)
    until(lambda: "rejected" in service.calls.status("default").config_notice)
    assert asked(service.calls).config.recall.similar == 0.6
    service.write()
    until(lambda: asked(service.calls).config.recall.similar != 0.6)
    assert service.calls.status("default").config_notice == ""


def test_a_file_that_vanishes_leaves_what_is_in_force_and_its_return_is_seen(quick: None, service: Configured) -> None:
    text = service.file.read_text()
    service.file.unlink()
    until(lambda: "cannot be read" in service.calls.status("default").config_notice)
    assert asked(service.calls).config.dream.max_parallel == 2
    service.file.write_text(text)
    until(lambda: not service.calls.status("default").config_notice)


def test_a_link_that_is_pointed_elsewhere_is_seen(
    quick: None, equal_store: Callable[[str], Path], tmp_path: Path
) -> None:
    """As Kubernetes mounts a ConfigMap: file -> ..data/file, ..data -> a directory, and ..data is what is replaced."""

    class Mounted(Configured):
        def version(self, name: str, text: str) -> None:
            (tmp_path / name).mkdir()
            (tmp_path / name / "dreamsvc.toml").write_text(text)
            (tmp_path / "..new").symlink_to(name)
            os.replace(tmp_path / "..new", tmp_path / "..data")

        def write(self, *changes: Tables) -> None:
            self.version("one", as_toml(self._tables))
            self.file = tmp_path / "mounted.toml"
            self.file.symlink_to("..data/dreamsvc.toml")

    with Mounted(equal_store("mounted")) as service:
        service.version("two", as_toml(merged(service._tables, {"recall": {"similar": 0.6}})))
        until(lambda: asked(service.calls).config.recall.similar == 0.6)


def test_an_unchanged_file_is_not_read_again(quick: None, service: Configured) -> None:
    os.utime(service.file)
    looks: list[bytes | None] = []
    look = service.app.reloading._look

    def counted() -> bytes | None:
        looks.append(look())
        return looks[-1]

    service.app.reloading._look = counted  # type: ignore[method-assign]
    until(lambda: len(looks) > 3)
    assert not asked(service.calls).HasField("last_reload")


def test_a_signal_has_it_read_at_once(tmp_path: Path) -> None:
    with AsProcess(tmp_path / "memory.db", {"recall": {"similar": 0.9}}) as service:
        file = tmp_path / "memory.toml"
        file.write_text(file.read_text().replace("similar = 0.9", "similar = 0.6"))
        service.process.send_signal(signal.SIGHUP)
        done = until(lambda: reloads(service.calls, ConfigReload.CAUSE_SIGNAL))
        assert list(done.changed) == ["recall.similar"]
        assert asked(service.calls).config.recall.similar == 0.6
        file.write_text("[recall]\nsimilar = 7\n")
        service.process.send_signal(signal.SIGHUP)
        until(lambda: not asked(service.calls).last_reload.ok)
        said = service.end()
    assert "recall.similar: is 7; must be at most 1" in said
    assert "Traceback" not in said


# ── what follows ────────────────────────────────────────────────────────────────


def test_dreams_that_are_switched_off_are_woken_and_go_on_when_they_are_on_again(service: Configured) -> None:
    calls = service.calls
    dream = calls.trigger("default").dream
    until(lambda: calls.dream("default", dream.id).report.replays or None)
    assert list(service.change({"dream": {"enabled": False}}).changed) == ["dream.enabled"]
    woken = calls.ended("default", dream.id)
    assert woken.state == Dream.STATE_SUSPENDED
    assert woken.report.last_wake_reason == dream_pb2.WAKE_REASON_SWITCHED_OFF
    refusal = refused(lambda: calls.trigger("default"))
    assert refusal.reason == "DISABLED"
    assert refusal.code.name == "PERMISSION_DENIED"
    assert "dream.enabled" in refusal.message
    service.change()
    assert calls.trigger("default").dream.id == dream.id
    calls.abort("default", discard=True)


def test_a_dream_that_runs_takes_what_is_allowed_now(tmp_path: Path) -> None:
    slow: Tables = {"dream": {"resources": {"wake_latency_ms": 60_000.0}}}
    with AsProcess(tmp_path / "memory.db", slow) as service:
        calls = service.calls
        calls.remember("default")
        dream = calls.trigger("default").dream
        until(lambda: calls.dream("default", dream.id).report.replays or None)
        (tmp_path / "memory.toml").write_text(as_toml(BASE))
        calls.call(calls.admin.ReloadConfig, ReloadConfigRequest())
        os.kill(service.dreamer_pid(), signal.SIGSTOP)
        # By what it began with it would be waited for, for most of a minute.
        assert calls.abort("default").killed


def test_a_space_that_is_put_on_hold_is_woken(service: Configured) -> None:
    calls = service.calls
    dream = calls.trigger("default").dream
    service.change({"dream": {"hold_spaces": ["default"]}})
    assert calls.ended("default", dream.id).report.last_wake_reason == dream_pb2.WAKE_REASON_SWITCHED_OFF
    assert refused(lambda: calls.trigger("default")).reason == "ON_HOLD"
    service.change()
    calls.abort("default", discard=True)
    assert calls.trigger("default", dry_run=True, budget_s=0.05, blocking=True).dream.id


def test_how_many_dream_at_once_follows_the_key_and_the_switch(service: Configured) -> None:
    calls = service.calls
    calls.remember("other", a_memory(30))
    calls.trigger("default")
    for changes, key in (
        ({"dream": {"max_parallel": 1}}, "dream.max_parallel"),
        ({"features": {"parallel_dreams_enabled": False}}, "features.parallel_dreams_enabled"),
    ):
        service.change(changes)
        refusal = refused(lambda: calls.trigger("other"))
        assert refusal.reason == "DREAM_IN_PROGRESS"
        assert key in refusal.message
    service.change()
    assert calls.trigger("other").dream.id
    for space in ("default", "other"):
        calls.abort(space, discard=True)


def test_generate_and_simulate_can_be_switched_off_and_on(service: Configured) -> None:
    calls = service.calls
    generate = GenerateRequest(space="default", prompt="memory number 7")
    simulate = SimulateRequest(memories=[Memory(text="a"), Memory(text="b")])
    simulate.budget.FromMilliseconds(50)
    service.change({"features": {"generate_enabled": False, "simulate_enabled": False}})
    for method, request, key in (
        (calls.dreams.Generate, generate, "features.generate_enabled"),
        (calls.dreams.Simulate, simulate, "features.simulate_enabled"),
    ):
        refusal = refused(lambda method=method, request=request: calls.call(method, request))
        assert (refusal.reason, refusal.code.name) == ("DISABLED", "PERMISSION_DENIED")
        assert key in refusal.message
    service.change()
    assert calls.call(calls.dreams.Generate, generate).trace


def test_recall_and_the_trigger_decide_by_what_is_in_force(service: Configured) -> None:
    calls = service.calls
    found = [hit.memory.key for hit in calls.recall("default").hits]
    service.change({"recall": {"lexical_weight": 0.0, "walk_weight": 0.0}})
    assert [hit.memory.key for hit in calls.recall("default").hits] != found
    assert "Trigger only" in calls.status("default").why_not_dreaming
    service.change({"dream": {"trigger": {"automatic": True, "idle_duration_minutes": 600.0}}})
    assert "of 36000 s" in calls.status("default").why_not_dreaming
    service.change({"dream": {"trigger": {"automatic": True, "activity_threshold": 0.0}}})
    assert "above 0" in calls.status("default").why_not_dreaming


def test_a_stream_that_is_open_follows_the_heartbeat(equal_store: Callable[[str], Path]) -> None:
    with Configured(equal_store("beating"), {"server": {"heartbeat_seconds": 600.0}}) as service:
        events = service.calls.watch("default")
        next(events)
        service.change({"server": {"heartbeat_seconds": 0.05}})
        # The wait that is under way ends with the first event.
        service.calls.trigger("default")
        assert any(event.HasField("heartbeat") for event in events)
        service.calls.abort("default", discard=True)


def test_the_grace_of_a_shutdown_follows(equal_store: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float | None] = []
    with Configured(equal_store("graceful"), {"server": {"grace_seconds": 600.0}}) as service:
        server = service.app._door._server
        stop = server.stop

        async def recorded(grace: float | None) -> None:
            given.append(grace)
            await stop(grace)

        monkeypatch.setattr(server, "stop", recorded)
        service.change({"server": {"grace_seconds": 0.1}})
    assert given == [0.1]


def test_what_the_store_keeps_follows(service: Configured) -> None:
    store, journal = service.app.store, service.app.journal
    assert store.keep_request_us == journal.keep_request_us == 24 * 3_600_000_000
    service.change({"store": {"request_id_hours": 1.0, "restore_days": 3}})
    assert store.keep_request_us == journal.keep_request_us == 3_600_000_000
    assert service.app.in_force.store.restore_days == 3


def test_the_answer_is_one_that_json_can_tell(service: Configured) -> None:
    assert json_format.MessageToDict(asked(service.calls))["config"]["dream"]["enabled"] is True
