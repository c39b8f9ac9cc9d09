"""The configuration as it holds for one space: [dream], with what [[dream.spaces]] says otherwise."""

from dreamsvc.config import InForce
from dreamsvc.v1.config_pb2 import DreamConfig, SpacePolicy, TriggerConfig

_NONE = SpacePolicy()


class Policies:
    """Asks the configuration in force each time; what it worked out is kept until that is exchanged."""

    def __init__(self, config: InForce) -> None:
        self._config = config
        self._of = config.dream
        self._policies: dict[str, SpacePolicy] = {}
        self._made: dict[str, DreamConfig] = {}
        self._read()

    def config(self, space: str) -> DreamConfig:
        """Never changed by whoever gets it."""
        self._keep_up()
        if (policy := self._policies.get(space)) is None:
            return self._of
        made = self._made.get(space)
        if made is None:
            made = self._made[space] = _with(self._of, policy)
        return made

    def priority(self, space: str) -> int:
        self._keep_up()
        return self._policies.get(space, _NONE).priority

    def disabled_by(self, space: str) -> str:
        """The key that switches dreaming in a space off, '' where none does."""
        if not self._config.dream.enabled:
            return "dream.enabled"
        return "" if self.config(space).enabled else f'dream.spaces "{space}" enabled'

    def _keep_up(self) -> None:
        if self._config.dream is not self._of:
            self._read()

    def _read(self) -> None:
        self._of = self._config.dream
        self._policies = {policy.space: policy for policy in self._of.spaces}
        self._made = {}


def _with(config: DreamConfig, policy: SpacePolicy) -> DreamConfig:
    made = DreamConfig()
    made.CopyFrom(config)
    if policy.HasField("enabled"):
        made.enabled = made.enabled and policy.enabled
    own = TriggerConfig()
    for field, value in policy.ListFields():
        if field.name == "windows":
            # A list that is not set and an empty one look the same; "at any time" is 00:00-24:00.
            del made.trigger.windows[:]
            own.windows.extend(policy.windows)
        elif field.name in TriggerConfig.DESCRIPTOR.fields_by_name:
            setattr(own, field.name, value)
    made.trigger.MergeFrom(own)
    return made
