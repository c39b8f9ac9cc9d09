"""Whose call is answered, and what a caller may say of its trace."""

import asyncio

import pytest

from dreamsvc import calling
from dreamsvc.calling import Call, Parent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_traceparent_tells_trace_and_span() -> None:
    assert calling.read_traceparent(f"00-{TRACE}-{SPAN}-01") == Parent(TRACE, SPAN, sampled=True)
    assert calling.read_traceparent(f"00-{TRACE}-{SPAN}-02") == Parent(TRACE, SPAN, sampled=False)


def test_a_later_version_may_say_more() -> None:
    assert calling.read_traceparent(f"cc-{TRACE}-{SPAN}-00-what comes later") == Parent(TRACE, SPAN, sampled=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
    ],
)
def test_what_is_no_traceparent_is_as_if_it_were_absent(text: str) -> None:
    assert calling.read_traceparent(text) is None


def test_each_task_has_its_own_call() -> None:
    async def answer(name: str) -> str:
        calling.begin(Call(TRACE, name))
        await asyncio.sleep(0)
        return await asyncio.to_thread(lambda: calling.current().caller)

    async def both() -> list[str]:
        return await asyncio.gather(answer("one"), answer("two"))

    assert asyncio.run(both()) == ["one", "two"]
    assert calling.current() == Call()
