"""Configuration files and environments: a valid configuration comes of them, or the paths of what is wrong in them."""

import shutil
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from benchmarks.proof.fuzz_draws import CORPUS, TEXTS, Draws
from benchmarks.proof.fuzz_parts import directory
from benchmarks.proof.fuzz_watch import Broken, Watch
from dreamsvc import config, contract
from dreamsvc.config_environment import name_of
from dreamsvc.config_sources import Sources
from dreamsvc.errors import InvalidFields
from dreamsvc.v1.config_pb2 import Config

# As they stand in a file.
VALUES = [*CORPUS["toml_values"], "9" * 20, "9" * 400, "0x" + "f" * 400]
PLACES = list(contract.keys(Config.DESCRIPTOR).items())
KEYS = CORPUS["toml_keys"]
HUGE = ["9" * 5000, "0x" + "f" * 100_000, "[" * 100_000, "{a=" * 1000, "[" * 200 + "]" * 200, '"' + "x" * 5000 + '"']
HUGE += ["{a=" * 200 + "1" + "}" * 200]


class TomlTarget:
    name = "toml"
    size = 5000

    def __init__(self) -> None:
        self._home = directory()
        self._path = self._home / "dreamsvc.toml"
        self._tables = [
            (name, field.message_type) for name, field in Config.DESCRIPTOR.fields_by_name.items() if field.message_type
        ]
        for name, message in list(self._tables):
            self._tables += [
                (f"{name}.{field.name}", field.message_type)
                for field in message.fields
                if field.message_type is not None
            ]

    def close(self) -> None:
        shutil.rmtree(self._home, ignore_errors=True)

    def batch(self, watch: Watch, cases: int) -> None:
        draws = Draws(f"toml {watch.seed}")
        while watch.cases < cases:
            data = self._file(draws)
            with watch.case("load", data):
                self._path.write_bytes(data)
                watch.ended(_load(self._path))
            tables = {draws.choice(("dream", "server", "x")): _value(draws, 0) for _ in range(draws.randrange(3))}
            with watch.case("parse"):
                watch.ended(_parse(tables))
            sources = Sources(self._path if draws.maybe(0.5) else None, self._environment(draws))
            with watch.case("read", repr(sources.environment).encode(errors="backslashreplace")):
                watch.ended(_read(sources))

    def _environment(self, draws: Draws) -> dict[str, str]:
        found: dict[str, str] = {}
        for _ in range(draws.randrange(4)):
            path, field = draws.choice(PLACES)
            name = name_of(path) if draws.maybe(0.9) else f"DREAMSVC_{draws.text()[:20]}"
            text = self._of(draws, field)
            found[name] = text.strip('"') if draws.maybe(0.5) else text
        return found

    def _file(self, draws: Draws) -> bytes:
        lines: list[str] = []
        for _ in range(draws.randrange(4)):
            name, message = draws.choice(self._tables)
            lines.append(f"[{name}]" if draws.maybe(0.95) else f"[[{name}]]")
            for _ in range(draws.randrange(4)):
                field = draws.choice(message.fields)
                key = field.name if draws.maybe(0.9) else draws.choice(KEYS)
                lines.append(f"{key} = {self._of(draws, field)}")
        data = "\n".join(lines).encode(errors="surrogatepass")
        match draws.randrange(12):
            case 0:
                return draws.damaged(data, data)
            case 1:
                return draws.randbytes(draws.randrange(100))
            case 2 if draws.maybe(0.1):
                return draws.choice((b"[a.", b"[", b"a.", b"#", b'"""')) * draws.choice((1, 100, 20_000))
            case 3:
                return b"\xef\xbb\xbf" + data
            case _:
                return data

    @staticmethod
    def _of(draws: Draws, field: FieldDescriptor) -> str:
        """Mostly of the field's type."""
        if draws.maybe(0.02):
            return draws.choice(HUGE)
        if draws.maybe(0.4):
            return draws.choice(VALUES)
        if field.type == FieldDescriptor.TYPE_BOOL:
            return draws.choice(("true", "false"))
        if field.type == FieldDescriptor.TYPE_STRING:
            text = draws.choice(("endpoint", "none", "minilm", "retry", "converge", "fill", *TEXTS[:20]))
            text = '"' + "".join(letter if letter.isalnum() else f"\\U{ord(letter):08x}" for letter in text) + '"'
            return f"[{text}]" if field.is_repeated else text
        return repr(draws.choice((0, 1, 2, 0.5, 10, 0.01, 100, 0.25, draws.uniform(0, 100), draws.randrange(1000))))


def _value(draws: Draws, depth: int) -> Any:
    """As a caller of `parse` may give it."""
    match draws.randrange(8):
        case 0 if depth < 5:
            return {
                draws.choice((*KEYS, "nrem", "rem", "trigger", "host", "hold_spaces")): _value(draws, depth + 1)
                for _ in range(3)
            }
        case 1 if depth < 5:
            return [_value(draws, depth + 1) for _ in range(draws.randrange(3))]
        case 2:
            return draws.float_()
        case 3:
            return draws.choice((0, 1, -1, 2**63, 2**64, 10**400, 1 << 400_000, True, None))
        case 4:
            return draws.choice(("\ud800", *TEXTS))
        case _:
            return draws.text()[:200]


def _load(path: Any) -> str:
    try:
        return _require_valid(config.load(path))
    except InvalidFields as error:
        return _require_paths(error)


def _read(sources: Sources) -> str:
    try:
        return _require_valid(sources.read().config)
    except InvalidFields as error:
        return _require_paths(error)


def _parse(tables: dict[str, Any]) -> str:
    try:
        return _require_valid(config.parse(tables))
    except InvalidFields as error:
        return _require_paths(error)


def _require_valid(found: Config) -> str:
    contract.check(found)
    found.SerializeToString()
    return "valid"


def _require_paths(error: InvalidFields) -> str:
    if not error.violations or any(not (path and message) for path, message in error.violations):
        raise Broken("something is wrong and nothing says what, or where")
    if len(error.message) > 20_000:
        raise Broken(f"the message has {len(error.message)} characters")
    return "refused"
