"""Evaluation sets of a few made-up facts, in the files that benchmarks read."""

import gzip
import json
from pathlib import Path
from typing import Any

ANIMALS = ("otter", "heron", "badger", "lynx", "marten", "raven", "salmon", "beaver", "falcon", "hedgehog")
PLACES = ("river", "forest", "castle", "harbour")


def write_small_sets(directory: Path, *names: str) -> None:
    """Each with 40 facts and 12 questions, one of which is adversarial and one without gold."""
    for name in names:
        facts = [
            {
                "id": f"{name}/{animal}-{place}",
                "title": animal.title(),
                "text": f"When the snow melts, the {animal} sleeps near the {place}. It is shy, and it eats fish.",
                "ts": f"2024-03-0{1 + number % 9}T10:00:00",
            }
            for number, (animal, place) in enumerate((animal, place) for animal in ANIMALS for place in PLACES)
        ]
        questions: list[dict[str, Any]] = [
            {
                "id": f"q{number}",
                "question": f"where does the {animal} sleep, near the {PLACES[number % 4]}?",
                "gold": [f"{name}/{animal}-{PLACES[number % 4]}"],
                "type": 1,
            }
            for number, animal in enumerate(ANIMALS)
        ]
        questions.append({"id": "trick", "question": "where is the unicorn?", "gold": [facts[0]["id"]], "type": 5})
        questions.append({"id": "none", "question": "what is love?", "gold": [], "type": 1})
        write_lines(directory / f"{name}.corpus.jsonl.gz", facts)
        write_lines(directory / f"{name}.queries.jsonl.gz", questions)


def write_lines(file: Path, lines: list[dict[str, Any]]) -> None:
    with gzip.open(file, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(line) + "\n" for line in lines)
