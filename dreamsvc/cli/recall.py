"""`dreamsvc recall`."""

import argparse
import sys
from collections.abc import Iterator

from dreamsvc_client import Client
from rich.text import Text

from dreamsvc.cli import output
from dreamsvc.cli.call import calling
from dreamsvc.cli.command import EXIT_OK, Command, add_call_arguments, count, moment
from dreamsvc.cli.output import counted
from dreamsvc.v1.memory_pb2 import Hit, Why
from dreamsvc.v1.memory_service_pb2 import RecallResponse


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", metavar="TEXT", help="what to look for; - reads it from standard input")
    parser.add_argument("--limit", metavar="N", type=count, help="how many (default: 10)")
    parser.add_argument("--kind", action="append", default=[], help="only this kind; may be repeated")
    parser.add_argument("--after", metavar="ISO", type=moment, help="only what happened at or after, e.g. 2026-03-01")
    parser.add_argument("--before", metavar="ISO", type=moment, help="only what happened before")
    parser.add_argument(
        "--tokens", metavar="N", type=count, help="end before titles and texts pass so many tokens (words and marks)"
    )
    parser.add_argument("--all-similar", action="store_true", help="memories that say the same as a better one too")
    add_call_arguments(parser)


def _recall(client: Client, args: argparse.Namespace) -> int:
    text = sys.stdin.read() if args.text == "-" else args.text
    answer = client.recall(
        text,
        limit=args.limit,
        kinds=args.kind,
        after=args.after,
        before=args.before,
        token_budget=args.tokens,
        with_similar=args.all_similar,
        space=args.space,
    )
    if args.json:
        output.print_json(answer)
        return EXIT_OK
    console = output.console()
    for rank, hit in enumerate(answer.hits, 1):
        console.print(_hit_text(rank, hit), soft_wrap=True)
    if not answer.hits:
        print("nothing found" + (f" within {args.tokens:,} tokens" if args.tokens else ""))
    for note in _notes(answer, args.tokens, args.space):
        print(f"note: {note}", file=sys.stderr)
    return EXIT_OK


def _notes(answer: RecallResponse, token_budget: int | None, space: str) -> Iterator[str]:
    if answer.similar_left_out:
        left_out = counted(answer.similar_left_out, "memory that says", "memories that say")
        were = "was" if answer.similar_left_out == 1 else "were"
        yield f"{left_out} the same {were} left out (--all-similar shows them)"
    if token_budget and answer.hits:
        yield f"{answer.tokens:,} of {token_budget:,} tokens used"
    if answer.notice:
        yield output.plain(answer.notice)
    if answer.woke_dream:
        yield f"this woke the dream {answer.woke_dream}; the next trigger goes on with it"
    # One memory makes no pair.
    if answer.recall_id and len(answer.hits) > 1:
        of_space = "" if space == "default" else f" --space {space}"
        yield f"were some of use together? dreamsvc feedback {answer.recall_id} ID ID{of_space}"


def _hit_text(rank: int, hit: Hit) -> Text:
    memory = hit.memory
    name = memory.title or memory.key or memory.id
    text = Text(f"{rank:>2}  {hit.score:.3f}  ")
    text.append(output.shortened(name, 100), style="bold")
    text.append(f"  {output.plain(memory.kind)}  {why_text(hit.why)}", style="dim")
    if hit.superseded_by:
        text.append(f"\n           superseded by {output.plain(hit.superseded_by)}", style="bold")
    text.append(f"\n           {output.shortened(memory.text, 200)}" if memory.text else "")
    if memory.title:
        text.append(f"\n           {output.plain(memory.key or memory.id)}", style="dim")
    return text


def why_text(why: Why) -> str:
    """The parts of a score that are not nothing, e.g. "words 0.42, edges 0.10"."""
    parts = (("words", why.lexical), ("vectors", why.dense), ("edges", why.walk), ("name", why.alias))
    return ", ".join(f"{label} {value:.2f}" for label, value in parts if value)


COMMANDS = {
    "recall": Command(
        description="Finds memories by words, meaning and the edges between them. Waits for no dream.",
        examples="""
            recall "how do I join paths"
            recall "deploy" --kind note --kind event --after 2026-03-01 --limit 3
            recall "deploy" --tokens 2000 --all-similar
            recall --json "deploy" | jq -r '.hits[].memory.title'
        """,
        add_arguments=_arguments,
        run=calling(_recall),
    ),
}
