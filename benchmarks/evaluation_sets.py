"""Memories with questions whose answers are known, read from a directory that is not part of this project.

A set NAME is two gzipped files of JSON lines: NAME.corpus.jsonl.gz with {id, title, text[, ts]}, and
NAME.queries.jsonl.gz with {id, question, gold[, type]}, gold being ids of the corpus. Of chats the corpus has {conv,
session} beside. Nothing of them is kept here.
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# LoCoMo's questions that nothing in the memory answers.
ADVERSARIAL = 5


class DataAbsent(Exception):
    """A directory does not hold the sets that were asked for; the message names what is missing."""


class Fact(NamedTuple):
    """What one memory says."""

    key: str
    title: str
    text: str
    event_time: str  # ISO 8601, UTC; empty where it is not known
    session: str = ""  # equal for what was said in one conversation; empty where there are none

    @property
    def said(self) -> tuple[str, str]:
        """By which it is known again, whichever memory tells it."""
        return self.title, self.text


class Question(NamedTuple):
    text: str
    # Keys of the facts that answer it, at least one. A fact that is told several times counts once, as all its keys.
    gold: tuple[tuple[str, ...], ...]
    kind: str = ""  # as its set names it; empty where it does not


class EvaluationSet(NamedTuple):
    name: str
    facts: tuple[Fact, ...]
    questions: tuple[Question, ...]
    token_budget: int  # of text that an answer may be read from


def read(directory: Path, name: str, token_budget: int) -> EvaluationSet:
    """Questions without gold, and adversarial ones, are left out. Raises DataAbsent."""
    corpus, queries = (directory / f"{name}.{part}.jsonl.gz" for part in ("corpus", "queries"))
    absent = [str(file) for file in (corpus, queries) if not file.is_file()]
    if absent:
        raise DataAbsent(f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not there")
    facts = tuple(
        Fact(line["id"], line.get("title", ""), line["text"], _utc(line.get("ts", "")), _session(line))
        for line in _lines(corpus)
    )
    questions = tuple(
        Question(line["question"], tuple((key,) for key in dict.fromkeys(line["gold"])), str(line.get("type", "")))
        for line in _lines(queries)
        if line["gold"] and line.get("type") != ADVERSARIAL
    )
    return EvaluationSet(name, facts, questions, token_budget)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _session(line: dict[str, Any]) -> str:
    return f"{line.get('conv', '')}/{line['session']}" if "session" in line else ""


def _utc(time: str) -> str:
    """Where no zone is given, times of a set are taken for UTC."""
    return f"{time}Z" if time and not time.endswith("Z") and "+" not in time else time
