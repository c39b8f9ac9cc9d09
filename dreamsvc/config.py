"""The configuration: a TOML file into `Config`, every mistake named by its path (REQ-DREAM-031)."""

import difflib
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from dreamsvc import contract, json_messages, windows
from dreamsvc.errors import InvalidFields, Violation
from dreamsvc.v1.config_pb2 import (
    Config,
    DreamConfig,
    EmbedderConfig,
    FeaturesConfig,
    RecallConfig,
    SecurityConfig,
    ServerConfig,
    StoreConfig,
    TelemetryConfig,
)

logger = logging.getLogger(__name__)
# Told of an exchange: what held before, and what holds now.
type Heard = Callable[[Config, Config], None]

_TYPES: dict[int, tuple[tuple[type, ...], str]] = {
    FieldDescriptor.TYPE_BOOL: ((bool,), "true or false"),
    FieldDescriptor.TYPE_DOUBLE: ((int, float), "a number"),
    FieldDescriptor.TYPE_STRING: ((str,), 'text in "quotes"'),
}

_ADDRESSES = ("embedder.url", "security.jwt.issuer", "security.jwt.jwks", "telemetry.traces_endpoint")
# Up to the last @ before the path.
_USER_INFO = re.compile(r"[^/]*://[^/?#]*@")


class InForce:
    """The configuration that holds now. It is exchanged whole, so whoever decides something asks here each time.

    What it gives is never changed; a piece of work that must see one state throughout keeps what it got.
    """

    def __init__(self, config: Config) -> None:
        self.whole = config
        self._dream = _allowed(config)
        self._heard: list[Heard] = []

    def exchange(self, config: Config) -> None:
        """From now on this one holds; whoever asked to be told of it hears it at once, in this thread."""
        before, self.whole = self.whole, config
        self._dream = _allowed(config)
        for heard in list(self._heard):
            try:
                heard(before, config)
            except Exception:
                # It holds already, and the others have to hear of it too.
                logger.exception("a change of the configuration was not taken up everywhere")

    def on_exchange(self, heard: Heard) -> Callable[[], None]:
        """Has a function called after each exchange, for what cannot ask each time; the result ends that."""
        self._heard.append(heard)
        return lambda: self._heard.remove(heard)

    @property
    def dream(self) -> DreamConfig:
        """As configured, with the one dream at a time that features.parallel_dreams_enabled may demand."""
        return self._dream

    @property
    def features(self) -> FeaturesConfig:
        return self.whole.features

    @property
    def parallel_key(self) -> str:
        """The key that says how many dreams may run at the same time."""
        return "dream.max_parallel" if self.features.parallel_dreams_enabled else "features.parallel_dreams_enabled"

    @property
    def recall(self) -> RecallConfig:
        return self.whole.recall

    @property
    def embedder(self) -> EmbedderConfig:
        return self.whole.embedder

    @property
    def server(self) -> ServerConfig:
        return self.whole.server

    @property
    def store(self) -> StoreConfig:
        return self.whole.store

    @property
    def security(self) -> SecurityConfig:
        return self.whole.security

    @property
    def telemetry(self) -> TelemetryConfig:
        return self.whole.telemetry


def _allowed(config: Config) -> DreamConfig:
    if config.features.parallel_dreams_enabled:
        return config.dream
    alone = DreamConfig()
    alone.CopyFrom(config.dream)
    alone.max_parallel = 1
    return alone


def defaults() -> Config:
    config = Config()
    contract.fill_deep(config)
    return config


def load(path: Path | None) -> Config:
    """Reads a file, or gives the defaults for None; raises InvalidFields naming each wrong key."""
    return defaults() if path is None else parse(tables_of(path))


def tables_of(path: Path) -> dict[str, Any]:
    """A file as TOML gives it; raises InvalidFields where it cannot be read."""
    return tables_in(content_of(path), str(path))


def content_of(path: Path) -> bytes:
    """Raises InvalidFields where the file cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidFields([Violation(str(path), f"cannot be read: {error.strerror}")]) from error


def tables_in(content: bytes, name: str) -> dict[str, Any]:
    """The bytes of a file as TOML gives them; raises InvalidFields where they are none."""
    # Not needed where there is no file, and then no part of a start.
    import tomllib

    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        # Also a number of thousands of digits, which Python does not read, and a list in a thousand lists.
        raise InvalidFields([Violation(name, f"is no TOML: {error}")]) from error


def list_of(text: str) -> Any:
    """A value that TOML reads, as a list in an environment variable is; the text itself where it reads none."""
    import tomllib

    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return found["value"] if len(found) == 1 else text


def parse(tables: Mapping[str, Any]) -> Config:
    """Checks tables as TOML gives them and fills in the defaults; raises InvalidFields."""
    wrong = _wrong_keys(tables, Config.DESCRIPTOR, "")
    if wrong:
        raise InvalidFields(wrong)
    config = Config()
    try:
        json_messages.read(tables, config)
    except json_messages.UnreadableJson as error:
        raise InvalidFields([Violation(*_split(str(error)))]) from error
    contract.fill_deep(config)
    check(config)
    return config


def check(config: Config) -> None:
    """Raises InvalidFields for every key beyond its rule."""
    contract.check(config)
    if wrong := [*windows.violations(config.dream), *_with_passwords(config)]:
        raise InvalidFields(wrong)


def _with_passwords(config: Config) -> Iterator[Violation]:
    """A configuration is shown to people, so an address in it has no password; what is wrong does not quote it."""
    for path in _ADDRESSES:
        if _USER_INFO.match(contract.get(config, path)):
            yield Violation(path, "is shown to people, so it must name no user or password")


def _wrong_keys(tables: Mapping[str, Any], message: Descriptor, prefix: str) -> list[Violation]:
    """Keys that do not exist, and values of another type; JSON's rules would take "0.5" and true for numbers."""
    found: list[Violation] = []
    for key, value in tables.items():
        field = message.fields_by_name.get(key)
        if field is None:
            near = difflib.get_close_matches(key, message.fields_by_name, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(message.fields_by_name)}"
            found.append(Violation(f"{prefix}{key}", f"is unknown{hint}"))
        elif field.message_type is not None and field.is_repeated:
            found += _wrong_tables(value, field.message_type, f"{prefix}{key}")
        elif field.message_type is not None:
            if isinstance(value, Mapping):
                found += _wrong_keys(cast("Mapping[str, Any]", value), field.message_type, f"{prefix}{key}.")
            else:
                found.append(Violation(f"{prefix}{key}", f"must be a table, e.g. [{prefix}{key}]"))
        elif mistake := type_mistake(field, value):
            found.append(Violation(f"{prefix}{key}", mistake))
    return found


def _wrong_tables(value: Any, message: Descriptor, path: str) -> list[Violation]:
    """Of a list of tables."""
    tables = cast("list[Any]", value) if isinstance(value, list) else [value]
    if not isinstance(value, list) or not all(isinstance(table, Mapping) for table in tables):
        return [Violation(path, f"must be a list of tables, each [[{path}]]")]
    return [wrong for i, table in enumerate(tables) for wrong in _wrong_keys(table, message, f"{path}[{i}].")]


def type_mistake(field: FieldDescriptor, value: Any) -> str:
    """What is wrong with the type of a key's value, '' where nothing is."""
    if field.is_repeated:
        if not isinstance(value, list):
            return f"is {_shown(value)}; must be a list"
        mistakes = (_scalar_mistake(field, item) for item in cast("list[Any]", value))
        return next((f"has an item that {mistake}" for mistake in mistakes if mistake), "")
    return _scalar_mistake(field, value)


def _scalar_mistake(field: FieldDescriptor, value: Any) -> str:
    types, name = _TYPES.get(field.type, ((int,), "a whole number"))
    # In Python, and only there, true is a number.
    if not isinstance(value, types) or isinstance(value, bool) != (bool in types):
        return f"is {_shown(value)}; must be {name}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}; must be finite"
    return ""


def _shown(value: Any) -> str:
    """The beginning of a value; some cannot be written down."""
    try:
        return f"{value!r:.80}"
    except (ValueError, RecursionError):
        return "a number too long to be shown" if isinstance(value, int) else "too much to be shown"


def _split(error: str) -> tuple[str, str]:
    """Path and text of protobuf's message: `Failed to parse dream field: ... at Config.dream.enabled.`"""
    text = error.rpartition(" field: ")[2]
    text, _, place = text.partition(" at Config.")
    path = place.rstrip(".") or ".".join(re.findall(r"Failed to parse (\w+) field", error))
    return path or "config", text.rstrip(".")
