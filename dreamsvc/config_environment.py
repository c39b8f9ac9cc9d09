"""Keys of the configuration as environment variables: DREAMSVC_DREAM__NREM__BATCH_SIZE is dream.nrem.batch_size."""

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor

from dreamsvc import config, contract
from dreamsvc.errors import Violation
from dreamsvc.v1.config_pb2 import Config

PREFIX = "DREAMSVC_"
# Switches that have a name without the prefix (API-5).
PLAIN = {
    "DREAMS_ENABLED": "dream.enabled",
    "PARALLEL_DREAMS_ENABLED": "features.parallel_dreams_enabled",
}
# Variables of ours that are no keys: the service that commands call, and what they show it to be let in; the dreamer's
# compiled kernels; a directory that tests and benchmarks read a model from.
OTHERS = (
    *("DREAMSVC_SERVER", "DREAMSVC_TOKEN", "DREAMSVC_TOKEN_FILE"),
    *("DREAMSVC_TLS_CA", "DREAMSVC_TLS_CERT", "DREAMSVC_TLS_KEY"),
    *("DREAMSVC_CACHE", "DREAMSVC_MINILM_DIR"),
)
# Kubernetes tells every pod of every service; one that is called dreamsvc, or dreamsvc-something, begins like ours.
_KUBERNETES = re.compile(
    r"DREAMSVC_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SWITCHES = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


class Variable(NamedTuple):
    """A value that a variable gives to a key."""

    name: str
    value: Any


def name_of(path: str) -> str:
    return PREFIX + path.replace(".", "__").upper()


def given(environment: Mapping[str, str]) -> tuple[dict[str, Variable], list[Violation]]:
    """Values by the paths of their keys, as typed as in a file, and variables that contradict each other."""
    names = {name: path for name, path in _names().items() if name in environment}
    found: dict[str, Variable] = {}
    wrong: list[Violation] = []
    for name, path in names.items():
        variable = Variable(name, _value(contract.keys(Config.DESCRIPTOR)[path], environment[name]))
        other = found.setdefault(path, variable)
        if other.value != variable.value:
            wrong.append(Violation(path, f"is told twice, and differently, by {other.name} and {name}"))
    return found, wrong


def unknown(environment: Mapping[str, str], named: Collection[str]) -> list[Violation]:
    """Variables that begin like keys and are none, each with what was probably meant.

    named: variables that the configuration itself names, e.g. the one with an embedder's key.
    """
    candidates = [name for name in environment if name.startswith(PREFIX)]
    strangers = [
        name
        for name in candidates
        if name not in _names() and name not in OTHERS and name not in named and not _of_kubernetes(name, environment)
    ]
    return [Violation(name, f"is unknown{_hint(name)}") for name in strangers]


def _names() -> dict[str, str]:
    return {name_of(path): path for path in contract.keys(Config.DESCRIPTOR)} | PLAIN


def _of_kubernetes(name: str, environment: Mapping[str, str]) -> bool:
    # E.g. DREAMSVC_PORT=tcp://10.0.0.1:50051, which a port that somebody wants to configure never looks like.
    return bool(_KUBERNETES.fullmatch(name)) or (name.endswith("_PORT") and "://" in environment[name])


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, _names(), n=1)
    return f"; did you mean {near[0]}?" if near else "; `dreamsvc config defaults` lists the keys"


def _value(field: FieldDescriptor, text: str) -> Any:
    """The text as the type of its key; the text itself where it is none, which the check of types then tells."""
    if field.is_repeated:
        return config.list_of(text)
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return text
        case FieldDescriptor.TYPE_BOOL:
            return _SWITCHES.get(text.strip().lower(), text)
        case FieldDescriptor.TYPE_DOUBLE:
            read = float
        case _:
            read = int
    try:
        return read(text)
    except ValueError:
        return text
