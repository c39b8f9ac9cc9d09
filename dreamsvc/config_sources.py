"""Where a configuration comes from: the defaults, then a file, then the environment, then the command line."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from dreamsvc import config, config_environment, contract
from dreamsvc.config_environment import Variable
from dreamsvc.errors import InvalidFields, Violation
from dreamsvc.v1.admin_pb2 import (
    CONFIG_SOURCE_COMMAND_LINE,
    CONFIG_SOURCE_ENVIRONMENT,
    CONFIG_SOURCE_FILE,
    ConfigOrigin,
)
from dreamsvc.v1.config_pb2 import Config

_NOTHING: Mapping[str, Any] = {}


class Read(NamedTuple):
    config: Config
    # Of the keys that are told anywhere, in the order of the proto; all others have their defaults.
    origins: list[ConfigOrigin]
    # Of the file, as it was read; None where there is none.
    content: bytes | None = None


class Sources(NamedTuple):
    """All that is read for a configuration; it can be read again and again."""

    file: Path | None = None
    environment: Mapping[str, str] = _NOTHING
    # By paths of keys: the option of the command line, and its value.
    options: Mapping[str, tuple[str, Any]] = _NOTHING

    def read(self) -> Read:
        """What is told last, holds; raises InvalidFields with everything that is wrong."""
        content, wrong = self._content()
        found, in_file, mistakes = self._parsed(content)
        variables, twice = config_environment.given(self.environment)
        options = {path: Variable(*told) for path, told in self.options.items()}
        origins = {
            path: ConfigOrigin(path=path, source=CONFIG_SOURCE_FILE, name=str(self.file)) for path in _paths(in_file)
        }
        # Beside those of the file, which says itself where they are.
        others = list(twice)
        for source, told in ((CONFIG_SOURCE_ENVIRONMENT, variables), (CONFIG_SOURCE_COMMAND_LINE, options)):
            for path, (name, value) in told.items():
                origins[path] = ConfigOrigin(path=path, source=source, name=name)
                others += _put(found, path, value)
        others += _beyond_rules(found)
        wrong += [*mistakes, *(_with_name(violation, origins) for violation in others)]
        wrong += config_environment.unknown(self.environment, _named(found))
        if wrong:
            raise InvalidFields(wrong)
        return Read(found, [origins[path] for path in contract.keys(Config.DESCRIPTOR) if path in origins], content)

    def _content(self) -> tuple[bytes | None, list[Violation]]:
        try:
            return (None if self.file is None else config.content_of(self.file)), []
        except InvalidFields as error:
            return None, error.violations

    def _parsed(self, content: bytes | None) -> tuple[Config, Mapping[str, Any], list[Violation]]:
        """The file over the defaults, what stands in it, and what is wrong with it."""
        if content is None:
            return config.defaults(), {}, []
        try:
            tables = config.tables_in(content, str(self.file))
            return config.parse(tables), tables, []
        except InvalidFields as error:
            return config.defaults(), {}, error.violations


def default_store(environment: Mapping[str, str]) -> str:
    """The database of those who name none, and read no file: that of the environment, or the default."""
    return environment.get(config_environment.name_of("store.path")) or config.defaults().store.path


def _paths(tables: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from _paths(cast("Mapping[str, Any]", value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _put(into: Config, path: str, value: Any) -> list[Violation]:
    """Sets a key, and gives what is wrong with the value as far as the key cannot even hold it."""
    field = contract.keys(Config.DESCRIPTOR)[path]
    if field.message_type is not None:
        return _put_tables(into, path, value)
    if mistake := config.type_mistake(field, value):
        return [Violation(path, mistake)]
    try:
        contract.put(into, path, value)
    except UnicodeEncodeError:
        return [Violation(path, "is no Unicode text")]
    except ValueError:
        return [Violation(path, f"is {value}; must be {contract.range_text(field)}")]
    return []


def _put_tables(into: Config, path: str, value: Any) -> list[Violation]:
    """Sets a list of tables as a file would."""
    tables = value
    for name in reversed(path.split(".")):
        tables = {name: tables}
    try:
        contract.put(into, path, contract.get(config.parse(tables), path))
    except InvalidFields as error:
        return error.violations
    return []


def _beyond_rules(found: Config) -> list[Violation]:
    try:
        config.check(found)
    except InvalidFields as error:
        return error.violations
    return []


def _named(found: Config) -> set[str]:
    """The environment variables that a configuration names."""
    return {contract.get(found, path) for path in contract.keys(Config.DESCRIPTOR) if path.endswith("_env")}


def _with_name(violation: Violation, origins: Mapping[str, ConfigOrigin]) -> Violation:
    """Tells who said it, where it was not the file."""
    origin = origins.get(violation.path.partition("[")[0])
    if origin is None or origin.source == CONFIG_SOURCE_FILE:
        return violation
    return violation._replace(message=f"{violation.message} (told by {origin.name})")
