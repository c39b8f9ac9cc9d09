"""Lines of the log, for people and as JSON, of this process and repeated for another one."""

import asyncio
import contextvars
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsvc import calling
from dreamsvc.calling import Call
from dreamsvc.telemetry import logs
from dreamsvc.telemetry.logs import JsonLines, Subject

DREAM = "01890a5d-ac96-774b-bcce-b302099a8057"


class Heard:
    """What a handler of its own wrote."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.stream = io.StringIO()
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(formatter)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.getLogger("dreamsvc.tested")
    made.propagate = False
    made.setLevel(logging.DEBUG)
    yield made
    made.handlers.clear()


@pytest.fixture
def heard(logger: logging.Logger) -> Heard:
    found = Heard(JsonLines("serve"))
    logger.addHandler(found.handler)
    return found


def test_a_line_is_one_object_that_says_what_it_is_about(logger: logging.Logger, heard: Heard) -> None:
    async def work() -> None:
        calling.begin(Call(trace_id="ab" * 16, caller="laptop"))
        logs.begin(Subject("notes"))
        logger.info("took %d", 7)
        with logs.about(Subject("notes", DREAM)):
            logger.warning('two\nlines, "quoted"')

    asyncio.run(work())
    first, second = heard.lines
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "info",
        "logger": "dreamsvc.tested",
        "message": "took 7",
        "process": "serve",
        "trace_id": "ab" * 16,
        "caller": "laptop",
        "space": "notes",
    }
    assert second["message"] == 'two\nlines, "quoted"'
    # A dream is a trace of its own.
    assert (second["dream_id"], second["trace_id"]) == (DREAM, DREAM.replace("-", ""))


def test_what_a_task_is_about_is_nobody_elses_business(logger: logging.Logger, heard: Heard) -> None:
    async def one(space: str) -> None:
        logs.begin(Subject(space))
        await asyncio.sleep(0)
        logger.info("%s", space)

    async def both() -> None:
        await asyncio.gather(one("a"), one("b"))
        logger.info("neither")

    # Other tests may have left a subject in this thread's own context.
    contextvars.Context().run(asyncio.run, both())
    assert [(line["message"], line.get("space")) for line in heard.lines] == [("a", "a"), ("b", "b"), ("neither", None)]


def test_an_error_brings_its_traceback_in_the_same_line(logger: logging.Logger, heard: Heard) -> None:
    try:
        raise RuntimeError("no device")
    except RuntimeError:
        logger.exception("failed")
    (line,) = heard.lines
    assert line["exception"].startswith("Traceback")
    assert "test_logs.py" in line["exception"]
    assert line["exception"].endswith("RuntimeError: no device")


@pytest.mark.parametrize("lines", [logs.JsonLines("serve"), logs.TextLines(logs.TEXT_FORMAT)])
def test_an_error_does_not_bring_the_values_that_it_met(lines: logging.Formatter) -> None:
    def fails(text: str) -> None:
        try:
            {}[text]  # pyright: ignore
        except KeyError as error:
            raise ValueError(f"could not read {text}") from error

    try:
        fails(" ".join(("of", "a", "memory")))
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), (type(error), error, error.__traceback__))
    told = lines.format(record)
    assert "of a memory" not in told
    assert told.index("ValueError") < told.index("which came of") < told.index("KeyError")


def test_a_line_of_another_process_is_logged_as_its_own(logger: logging.Logger, heard: Heard) -> None:
    calling.begin(Call(trace_id="of another call"))
    told = {"level": "warning", "logger": "dreamsvc.tested", "message": "50 % done", "process": "dreamer"}
    told |= {"time": "2026-01-01T00:00:00.000000Z", "dream_id": DREAM, "exception": "Traceback ..."}
    assert logs.repeat(json.dumps(told)) == "50 % done"
    assert heard.lines == [told]
    calling.begin(Call())


def test_a_line_of_another_process_reads_well_for_people(logger: logging.Logger) -> None:
    found = Heard(logging.Formatter(logs.TEXT_FORMAT))
    logger.addHandler(found.handler)
    logs.repeat(json.dumps({"level": "error", "logger": "dreamsvc.tested", "message": "broke", "exception": "Trace"}))
    assert found.stream.getvalue().endswith("ERROR dreamsvc.tested: broke\nTrace\n")


def test_a_line_below_the_level_is_not_repeated_and_still_known(logger: logging.Logger, heard: Heard) -> None:
    logger.setLevel(logging.WARNING)
    assert logs.repeat('{"level": "info", "logger": "dreamsvc.tested", "message": "calm"}') == "calm"
    assert heard.lines == []


# An object is a line whatever is in it, and chance writes one now and then.
NO_OBJECT = st.text().filter(lambda text: not text.lstrip().startswith("{"))


@given(st.one_of(NO_OBJECT, st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
def test_what_is_no_line_of_ours_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(ValueError):
        logs.repeat(text)


@given(st.dictionaries(st.sampled_from(["level", "logger", "message", "time"]), st.text() | st.integers()))
def test_any_object_is_repeated_whatever_is_in_it(fields: dict[str, Any]) -> None:
    fields["logger"] = "dreamsvc.silent"
    logging.getLogger("dreamsvc.silent").setLevel(logging.CRITICAL + 1)
    assert logs.repeat(json.dumps(fields)) == str(fields.get("message", ""))
