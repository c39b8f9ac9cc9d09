"""Rules of single spaces over those of all (dream.spaces)."""

from dreamsvc import config
from dreamsvc.config import InForce
from dreamsvc.dream.policies import Policies
from dreamsvc.v1.config_pb2 import Config


def with_spaces() -> Config:
    made = config.defaults()
    made.dream.trigger.windows.append("22:00-06:00")
    work = made.dream.spaces.add(space="work", idle_duration_minutes=30, memory_capacity=7, priority=2)
    work.windows.append("12:00-13:00")
    made.dream.spaces.add(space="off", enabled=False)
    return made


def test_what_a_space_does_not_set_is_as_for_all() -> None:
    policies = Policies(InForce(with_spaces()))
    work, other = policies.config("work"), policies.config("other")
    assert (work.trigger.idle_duration_minutes, work.trigger.cooldown_minutes) == (30, 30)
    assert (work.trigger.memory_capacity, other.trigger.memory_capacity) == (7, 1000)
    assert (list(work.trigger.windows), list(other.trigger.windows)) == (["12:00-13:00"], ["22:00-06:00"])
    assert other.trigger.idle_duration_minutes == 10
    assert (policies.priority("work"), policies.priority("other")) == (2, 0)
    assert work.nrem == other.nrem


def test_a_space_is_switched_off_by_its_own_table_and_never_on_by_it() -> None:
    made = with_spaces()
    made.dream.spaces.add(space="on", enabled=True)
    in_force = InForce(made)
    policies = Policies(in_force)
    assert policies.disabled_by("off") == 'dream.spaces "off" enabled'
    assert policies.disabled_by("on") == policies.disabled_by("work") == ""
    switched_off = Config()
    switched_off.CopyFrom(made)
    switched_off.dream.enabled = False
    in_force.exchange(switched_off)
    assert policies.disabled_by("on") == policies.disabled_by("off") == "dream.enabled"


def test_an_exchange_of_the_configuration_is_seen_at_once() -> None:
    in_force = InForce(with_spaces())
    policies = Policies(in_force)
    assert policies.config("work").trigger.idle_duration_minutes == 30
    in_force.exchange(config.defaults())
    assert policies.config("work").trigger.idle_duration_minutes == 10
    assert policies.config("work") is policies.config("other")
