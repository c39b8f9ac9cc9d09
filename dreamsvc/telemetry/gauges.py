"""What is looked up when somebody asks for metrics, as plain numbers; whoever knows it fills it in."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dreamsvc.v1.dream_pb2 import Dream


class SpaceGauges(NamedTuple):
    """One space, or all that have no label of their own."""

    memories: int
    edges: int
    # Whether there is anything to dream of since the last night, and for how long no night has ended; None where none
    # ever has.
    news: bool
    since_night_s: float | None
    cooldown_s: float
    activity: float
    # The last night that was applied.
    last: Dream | None


class Account(NamedTuple):
    """What all dreams together took of the GPU, or of all cores; counts are since the service began."""

    # Of the last second, and what is allowed; None while nothing dreams.
    share: float | None
    limit: float
    # In any second since the service began.
    highest: float
    throttles: int
    holds: int
    pauses: int
    unknown: int


class StoreGauges(NamedTuple):
    takes_changes: bool
    database_bytes: int
    log_bytes: int
    free_bytes: int
    # Writes that wait for the one writer, by priority: "user", "background".
    waiting: Mapping[str, int]
    # Dreams in the history by state, e.g. "succeeded".
    dreams: Mapping[str, int]
    # That dreams can go on from.
    checkpoints: int


class Gauges(NamedTuple):
    """The service at one moment."""

    version: str
    started_s: float
    # By label.
    spaces: Mapping[str, SpaceGauges]
    # Spaces by sleep state, e.g. "awake".
    sleep_states: Mapping[str, int]
    store: StoreGauges
    # By subsystem, e.g. "dreamer": whether it serves; None where it is switched off.
    subsystems: Mapping[str, bool | None]
    # Process ids of dreamers.
    dreamers: Sequence[int]
    account: Account
