"""`dreamsvc generate` and `simulate`: dreams that change nothing."""

import argparse
import shlex
import sys
from pathlib import Path

from dreamsvc_client import Client, detect_format
from dreamsvc_client.files import chunks

from dreamsvc.cli import diff_text, output, watching
from dreamsvc.cli.call import calling
from dreamsvc.cli.command import (
    EXIT_FAILED,
    EXIT_NOTHING_TO_DREAM,
    EXIT_OK,
    Command,
    add_call_arguments,
    add_identity_arguments,
    add_json_argument,
    count,
    duration_s,
    unit_share,
)
from dreamsvc.cli.dream import PHASES
from dreamsvc.cli.output import counted
from dreamsvc.cli.problems import print_dreamsvc_error
from dreamsvc.errors import DreamsvcError
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import GenerateResponse, SimulateResponse

_EDITS_SHOWN = 10
_MEMORIES_SHOWN = 5
_STEP_SHOWN = 60

SIMULATE_EXIT_CODES = """exit codes:
  0    it dreamed
  1    the call failed
  2    wrong usage
  4    there was nothing to dream of
  130  interrupted: the simulation ends, and nothing of it is kept"""


def _generate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help="where to begin; - reads it from standard input")
    parser.add_argument("--seed", metavar="N", type=count, help="the same seed over the same memories says the same")
    parser.add_argument("--creativity", metavar="0..1", type=unit_share, help="how far and unlikely (default: 0.5)")
    parser.add_argument("--coherence", metavar="0..1", type=unit_share, help="how strongly linked (default: 0.5)")
    parser.add_argument("--steps", metavar="N", type=count, help="memories to walk, 3 to 50 (default: 5)")
    add_call_arguments(parser)


def _generate(client: Client, args: argparse.Namespace) -> int:
    answer = client.generate(
        sys.stdin.read() if args.prompt == "-" else args.prompt,
        args.space,
        seed=args.seed,
        creativity=args.creativity,
        coherence=args.coherence,
        steps=args.steps,
    )
    if args.json:
        output.print_json(answer)
    else:
        _print_generated(answer)
    return EXIT_OK


def _print_generated(answer: GenerateResponse) -> None:
    output.print_text(answer.output)
    print()
    for number, step in enumerate(answer.trace, 1):
        said = output.shortened(step.content, _STEP_SHOWN)
        output.print_text(f"{number:>2}  {step.link_strength:.2f}  {step.how}: “{said}”  [{step.memory_id}]")
    measured = answer.metadata
    print(
        f"\nmeasured on it: creativity {measured.creativity_score:.2f}, coherence {measured.coherence_score:.2f}"
        f" (seed {measured.seed}, {measured.duration_ms:.1f} ms)"
    )


def _simulate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="as export writes it, or the MCP server's memory.jsonl")
    parser.add_argument("--iterations", metavar="N", type=count, help="dreams one after the other (default: 1)")
    parser.add_argument("--phase", choices=PHASES, default="full", help="what to dream (default: full)")
    parser.add_argument("--seed", metavar="N", type=count, help="of the first dream; the others have the next ones")
    parser.add_argument("--budget", metavar="TIME", type=duration_s, help="for each dream (default: the server's)")
    # No space: none is touched. No timeout: it takes as long as its dreams.
    add_identity_arguments(parser)
    parser.set_defaults(timeout=0.0)
    add_json_argument(parser)


def _simulate(client: Client, args: argparse.Namespace) -> int:
    # Reads as the server does; its modules cost their time only where they are used.
    from dreamsvc import upkeep

    try:
        graph = upkeep.read_graph(chunks(args.file), detect_format(args.file))
    except DreamsvcError as error:
        print_dreamsvc_error(error, as_json=args.json)
        return EXIT_FAILED
    answer = client.simulate(
        graph.memories,
        graph.edges,
        iterations=args.iterations,
        phase=PHASES[args.phase],
        seed=args.seed,
        budget_s=args.budget,
    )
    if args.json:
        output.print_json(answer)
    else:
        _print_simulated(answer, len(graph.memories), args)
    skipped = all(dream.state == Dream.STATE_SKIPPED for dream in answer.dreams)
    return EXIT_NOTHING_TO_DREAM if skipped else EXIT_OK


def _print_simulated(answer: SimulateResponse, memories: int, args: argparse.Namespace) -> None:
    listed = output.table(
        ">seed", "state", ">ratio", ">replayed", ">stronger", ">weaker", ">pruned", ">operations", ">time"
    )
    for dream in answer.dreams:
        report = dream.report
        listed.add_row(
            str(dream.seed),
            watching.state_word(dream),
            output.ratio_text(report.compression.nodes_before, report.compression.nodes_after),
            f"{report.nodes_replayed:,}",
            f"{report.edges_strengthened:,}",
            f"{report.edges_weakened:,}",
            f"{report.edges_pruned:,}",
            f"{report.operations:,}",
            output.seconds_text(report.seconds),
        )
    output.console().print(listed)
    detail = diff_text.Detail(edits=_EDITS_SHOWN, memories=_MEMORIES_SHOWN, ids=False)
    found = diff_text.grouped(answer.edits, detail)
    more = answer.edits_total - len(answer.edits)
    print(f"\n{diff_text.summary(found.counts)}" + (f", and {more:,} more" if more else ""))
    for line in diff_text.lines(found, detail, shlex.join(["dreamsvc", "simulate", str(args.file), "--json"])):
        print(line)
    after = counted(answer.memories, "memory", "memories")
    print(f"\n{memories:,} before; afterwards {after} and {counted(answer.edges, 'edge', 'edges')}; nothing was kept")


COMMANDS = {
    "generate": Command(
        description=(
            "Dreams from a prompt: walks from memory to memory and says what it came by. Changes nothing.\n"
            "Low creativity stays near the prompt, high coherence takes strong links only."
        ),
        examples="""
            generate "how do I join paths"
            generate "the harbour" --creativity 0.9 --coherence 0.3 --steps 8 --seed 7
            generate --json "the harbour" | jq -r '.trace[].how'
        """,
        add_arguments=_generate_arguments,
        run=calling(_generate),
    ),
    "simulate": Command(
        description=(
            "Dreams over the memories of a file and tells what it would change. No stored memory is touched,\n"
            "and nothing is kept. Refused while as many dreams run as the server allows."
        ),
        examples="""
            simulate backup.jsonl.gz
            simulate memory.jsonl --iterations 3 --phase nrem --budget 90s --seed 7
            simulate ~/.mcp/memory.jsonl --json | jq .edits_total
        """,
        add_arguments=_simulate_arguments,
        run=calling(_simulate),
        exit_codes=SIMULATE_EXIT_CODES,
    ),
}
