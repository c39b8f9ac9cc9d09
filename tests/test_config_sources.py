"""File, environment and command line, one over the other."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamsvc import config, config_environment, contract
from dreamsvc.config_environment import OTHERS, name_of
from dreamsvc.config_sources import Read, Sources
from dreamsvc.errors import InvalidFields, Violation
from dreamsvc.v1 import options_pb2
from dreamsvc.v1.admin_pb2 import ConfigSource
from dreamsvc.v1.config_pb2 import Config

ROOT = Path(__file__).resolve().parent.parent
KEYS = contract.keys(Config.DESCRIPTOR)
WORDS = st.text("aZ09 .,:/'\"\\\n\t\x7f\x01#=[]{}äß☾😀", max_size=20)

# Without the sign behind a user's name, which no address may hold.
VISIBLE = st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="@")


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values that the rule of a key allows."""
    rule: options_pb2.Rule = field.GetOptions().Extensions[options_pb2.rule]
    if field.name == "windows":
        return st.lists(st.sampled_from(["22:00-06:00", "Sat,Sun 00:00-24:00"]), max_size=3)
    if field.name == "time_zone":
        return st.sampled_from(["", "Europe/Berlin", "UTC"])
    if field.is_repeated:
        return st.lists(WORDS, max_size=3)
    match field.type:
        case FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.TYPE_STRING if rule.one_of:
            return st.sampled_from(list(rule.one_of))
        case FieldDescriptor.TYPE_STRING if rule.pattern:
            return st.from_regex(rule.pattern, fullmatch=True, alphabet=VISIBLE)
        case FieldDescriptor.TYPE_STRING:
            return WORDS.filter(lambda text: bool(text) or not rule.required)
        case FieldDescriptor.TYPE_DOUBLE:
            return st.floats(rule.min, rule.max)
        case _ if rule.one_of:
            return st.sampled_from([int(number) for number in rule.one_of])
        case _:
            return st.integers(int(rule.min), int(rule.max))


@st.composite
def told(draw: st.DrawFn) -> dict[str, Any]:
    """Some keys with values."""
    plain = [path for path, field in KEYS.items() if field.message_type is None]
    paths = draw(st.lists(st.sampled_from(plain), unique=True, max_size=8))
    return {path: draw(values(KEYS[path])) for path in paths}


def text_of(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case list():
            # As TOML has it: no surrogates, and DEL as an escape.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
        case _:
            return repr(value)


def environment(values_: dict[str, Any]) -> dict[str, str]:
    return {name_of(path): text_of(value) for path, value in values_.items()}


def options(values_: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    return {path: (f"--{path}", value) for path, value in values_.items()}


def tables(values_: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, value in values_.items():
        *parents, name = path.split(".")
        part = found
        for parent in parents:
            part = part.setdefault(parent, {})
        part[name] = value
    return found


def origins(read: Read) -> dict[str, tuple[str, str]]:
    return {
        origin.path: (ConfigSource.Name(origin.source).removeprefix("CONFIG_SOURCE_"), origin.name)
        for origin in read.origins
    }


def wrong(sources: Sources) -> dict[str, str]:
    with pytest.raises(InvalidFields) as caught:
        sources.read()
    return dict(caught.value.violations)


@given(told())
def test_what_the_environment_tells_is_what_a_file_would_tell(values_: dict[str, Any]) -> None:
    read = Sources(environment=environment(values_)).read()
    assert read.config == config.parse(tables(values_))
    assert origins(read) == {path: ("ENVIRONMENT", name_of(path)) for path in values_}


@given(told(), told())
def test_the_command_line_overrules_the_environment(low: dict[str, Any], high: dict[str, Any]) -> None:
    read = Sources(environment=environment(low), options=options(high)).read()
    assert read.config == config.parse(tables(low | high))
    assert [origin.path for origin in read.origins] == [path for path in KEYS if path in low | high]


def test_each_source_overrules_those_before_it_and_is_named(tmp_path: Path) -> None:
    file = tmp_path / "dreamsvc.toml"
    file.write_text('[server]\nport = 1\nhost = "localhost"\ngrace_seconds = 3\n[dream]\nhold_spaces = ["a", "b"]\n')
    read = Sources(
        file,
        {"DREAMSVC_SERVER__PORT": "2", "DREAMSVC_SERVER__HOST": "::1", "DREAMSVC_DREAM__HOLD_SPACES": '["c"]'},
        {"server.port": ("--port", 3)},
    ).read()
    assert (read.config.server.port, read.config.server.host, read.config.server.grace_seconds) == (3, "::1", 3)
    assert read.config.dream.hold_spaces == ["c"]
    assert origins(read) == {
        "dream.hold_spaces": ("ENVIRONMENT", "DREAMSVC_DREAM__HOLD_SPACES"),
        "server.host": ("ENVIRONMENT", "DREAMSVC_SERVER__HOST"),
        "server.port": ("COMMAND_LINE", "--port"),
        "server.grace_seconds": ("FILE", str(file)),
    }
    assert read.content == file.read_bytes()


@pytest.mark.parametrize(
    ("text", "on"), [("true", True), ("1", True), ("On", True), ("yes", True), ("false", False), ("0", False)]
)
def test_the_switches_have_names_without_the_prefix(text: str, on: bool) -> None:
    read = Sources(environment={"DREAMS_ENABLED": text, "PARALLEL_DREAMS_ENABLED": text, "HOME": "/root"}).read()
    assert read.config.dream.enabled is on
    assert read.config.features.parallel_dreams_enabled is on
    assert origins(read)["dream.enabled"] == ("ENVIRONMENT", "DREAMS_ENABLED")


def test_two_names_of_one_key_may_not_say_different_things() -> None:
    both = {"DREAMS_ENABLED": "false", "DREAMSVC_DREAM__ENABLED": "0"}
    assert not Sources(environment=both).read().config.dream.enabled
    found = wrong(Sources(environment=both | {"DREAMS_ENABLED": "true"}))
    assert "DREAMSVC_DREAM__ENABLED and DREAMS_ENABLED" in found["dream.enabled"]


@pytest.mark.parametrize(
    ("name", "text", "path", "message"),
    [
        ("DREAMSVC_DREAM__NREM__BATCH_SIZE", "many", "dream.nrem.batch_size", "is 'many'; must be a whole number"),
        ("DREAMSVC_DREAM__NREM__BATCH_SIZE", "", "dream.nrem.batch_size", "must be a whole number"),
        ("DREAMSVC_DREAM__NREM__BATCH_SIZE", "1.5", "dream.nrem.batch_size", "must be a whole number"),
        ("DREAMSVC_DREAM__NREM__BATCH_SIZE", "0", "dream.nrem.batch_size", "must be at least 1"),
        ("DREAMSVC_DREAM__NREM__BATCH_SIZE", "-1", "dream.nrem.batch_size", "is -1; must be from 1 to 4096"),
        ("DREAMSVC_DREAM__NREM__BATCH_SIZE", "9" * 5000, "dream.nrem.batch_size", "must be a whole number"),
        ("DREAMSVC_SERVER__GRACE_SECONDS", "nan", "server.grace_seconds", "must be finite"),
        ("DREAMSVC_DREAM__ENABLED", "maybe", "dream.enabled", "must be true or false"),
        ("DREAMSVC_DREAM__HOLD_SPACES", "legal", "dream.hold_spaces", "must be a list"),
        ("DREAMSVC_DREAM__HOLD_SPACES", "[1]\nx = 2", "dream.hold_spaces", "must be a list"),
        ("DREAMSVC_EMBEDDER__KIND", "gpt", "embedder.kind", "must be one of auto"),
        ("DREAMSVC_EMBEDDER__PATH", "\udcff", "embedder.path", "is no Unicode text"),
    ],
)
def test_a_wrong_value_is_told_with_its_key_and_its_variable(name: str, text: str, path: str, message: str) -> None:
    found = wrong(Sources(environment={name: text}))
    assert message in found[path]
    assert found[path].endswith(f"(told by {name})")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DREAMSVC_DREAM__NREM__BATCHSIZE", "DREAMSVC_DREAM__NREM__BATCH_SIZE"),
        ("DREAMSVC_DREAM_NREM_BATCH_SIZE", "DREAMSVC_DREAM__NREM__BATCH_SIZE"),
        ("DREAMSVC_SERVER_PORT", "DREAMSVC_SERVER__PORT"),
        ("DREAMSVC_DREAM", ""),
        ("DREAMSVC_", ""),
    ],
)
def test_a_variable_that_is_no_key_is_refused_with_what_was_probably_meant(name: str, meant: str) -> None:
    assert (meant or "is unknown") in wrong(Sources(environment={name: "1"}))[name]


def test_what_others_mean_by_the_prefix_is_left_to_them() -> None:
    kubernetes = {
        "DREAMSVC_SERVICE_HOST": "10.0.0.1",
        "DREAMSVC_SERVICE_PORT": "50051",
        "DREAMSVC_SERVICE_PORT_GRPC": "50051",
        "DREAMSVC_PORT": "tcp://10.0.0.1:50051",
        "DREAMSVC_PORT_50051_TCP": "tcp://10.0.0.1:50051",
        "DREAMSVC_PORT_50051_TCP_ADDR": "10.0.0.1",
        "DREAMSVC_METRICS_SERVICE_HOST": "10.0.0.2",
        "DREAMSVC_SERVER_PORT": "tcp://10.0.0.1:50051",
    }
    ours = dict.fromkeys(OTHERS, "x")
    named = {"DREAMSVC_EMBEDDER__API_KEY_ENV": "DREAMSVC_API_KEY", "DREAMSVC_API_KEY": "secret"}
    read = Sources(environment=kubernetes | ours | named).read()
    assert list(origins(read)) == ["embedder.api_key_env"]


def test_every_variable_that_the_code_reads_is_known() -> None:
    there = {
        str(node.value)
        for folder in ("dreamsvc", "clients/python", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if "v1" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"DREAMSVC_[A-Z_]+", node.value)
    }
    formats = {"DREAMSVC_JSONL", config_environment.PREFIX}
    assert there - formats == set(OTHERS)


def test_everything_that_is_wrong_anywhere_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "dreamsvc.toml"
    file.write_text("[dream.nrem]\nbatch_size = 0\n[sever]\nport = 1\n")
    found = wrong(
        Sources(
            file,
            {"DREAMSVC_SERVER__PORT": "x", "DREAMSVC_STORE__PATHS": "x", "DREAMSVC_DREAM__NREM__BATCH_SIZE": "3"},
            {"embedder.kind": ("--embedder", "gpt")},
        )
    )
    assert found.keys() == {"sever", "server.port", "DREAMSVC_STORE__PATHS", "embedder.kind"}
    assert found["sever"] == "is unknown; did you mean server?"
    file.write_text("[dream.nrem]\nbatch_size = 0\n")
    found = wrong(Sources(file, {"DREAMSVC_DREAM__NREM__BATCH_SIZE": "3"}))
    assert found == {"dream.nrem.batch_size": "is 0 memories; must be at least 1 memories"}


def test_a_file_that_cannot_be_read_is_told_with_the_rest(tmp_path: Path) -> None:
    found = wrong(Sources(tmp_path / "absent", {"DREAMSVC_X": "1"}))
    assert found.keys() == {str(tmp_path / "absent"), "DREAMSVC_X"}


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@st.composite
def strange_tables(draw: st.DrawFn) -> dict[str, Any]:
    """Tables with values of any kind at keys that there are, at tables, and at keys that there are not."""
    places = [*KEYS, "dream", "dream.nrem", "server", "dream.nrem.batch_size.x", "x", ""]
    found: dict[str, Any] = {}
    for place in draw(st.lists(st.sampled_from(places), max_size=5)):
        part = found
        *parents, name = place.split(".")
        for parent in parents:
            inner: Any = part.setdefault(parent, {})
            part = cast("dict[str, Any]", inner) if isinstance(inner, dict) else part
        part[name] = draw(JSONISH)
    return found


def mistakes_of(make: Callable[[], Config]) -> list[Violation]:
    """Nothing where it is a configuration that holds to every rule."""
    try:
        contract.check(make())
    except InvalidFields as error:
        return error.violations
    return []


# A busy machine is no fault of theirs.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(strange_tables())
def test_any_tables_are_a_valid_configuration_or_mistakes_with_their_places(found: dict[str, Any]) -> None:
    known = {*KEYS, *(path.rpartition(".")[0] for path in KEYS)}
    for path, message in mistakes_of(lambda: config.parse(found)):
        assert message
        assert path.partition("[")[0] in known or message.startswith("is unknown"), (path, message)


@given(st.dictionaries(st.sampled_from([name_of(path) for path in KEYS]), st.text(max_size=12), max_size=4))
def test_any_text_in_a_variable_is_a_value_or_a_mistake_that_names_it(variables: dict[str, str]) -> None:
    for _, message in mistakes_of(lambda: Sources(environment=variables).read().config):
        assert message.rpartition("told by ")[2].rstrip(")") in variables
