"""`dreamsvc dream`, `abort` and `revert`."""

import argparse
import sys

from dreamsvc_client import Client

from dreamsvc.cli import output, watching
from dreamsvc.cli.call import calling
from dreamsvc.cli.command import EXIT_INTERRUPTED, EXIT_OK, Command, add_call_arguments, count, duration_s
from dreamsvc.cli.output import counted
from dreamsvc.v1.dream_pb2 import (
    DREAM_PHASE_FULL_CYCLE,
    DREAM_PHASE_NREM,
    DREAM_PHASE_REM,
    DREAM_PHASE_UNSPECIFIED,
    Dream,
)
from dreamsvc.v1.dream_service_pb2 import AbortResponse, RevertResponse, TriggerResponse

EXIT_CODES = """exit codes:
  0    the dream succeeded, waits to be approved, or runs (without --watch and --wait)
  1    the call failed
  2    wrong usage
  3    the dream failed, was woken (it can go on) or was given up
  4    there was nothing to dream of
  130  Ctrl-C: stopped watching, the dream goes on"""

PHASES = {"nrem": DREAM_PHASE_NREM, "rem": DREAM_PHASE_REM, "full": DREAM_PHASE_FULL_CYCLE}


def _dream_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--phase", choices=PHASES, help="what to dream (default: full, nrem and then rem)")
    parser.add_argument("--budget", metavar="TIME", type=duration_s, help="e.g. 90s or 3m (default: the server's)")
    parser.add_argument("--seed", metavar="N", type=count, help="the same seed on the same store gives the same dream")
    parser.add_argument("--queries", metavar="N", type=count, help="number of synthetic queries, for REM")
    parser.add_argument("--dry-run", action="store_true", help="dream, and write nothing")
    parser.add_argument(
        "--propose",
        action=argparse.BooleanOptionalAction,
        help="wait for `dreamsvc approve` before anything of it is applied (default: as configured)",
    )
    parser.add_argument("--fresh", action="store_true", help="give an interrupted dream up instead of going on with it")
    parser.add_argument("--no-abort-on-query", action="store_true", help="a recall does not wake this dream")
    ends = parser.add_mutually_exclusive_group()
    ends.add_argument("--watch", action="store_true", help="show it until it ends; Ctrl-C stops watching only")
    ends.add_argument("--wait", action="store_true", help="answer when it has ended")
    add_call_arguments(parser)


def _dream(client: Client, args: argparse.Namespace) -> int:
    try:
        answer = client.trigger(
            space=args.space,
            phase=PHASES[args.phase] if args.phase else DREAM_PHASE_UNSPECIFIED,
            budget_s=args.budget,
            synthetic_query_count=args.queries,
            blocking=args.wait,
            abort_on_query=False if args.no_abort_on_query else None,
            dry_run=args.dry_run,
            seed=args.seed,
            fresh=args.fresh,
            propose=args.propose,
        )
        if args.watch:
            if not args.json:
                _print_trigger(answer)
            return watching.follow(client, args.space, answer.dream.id, as_json=args.json)
    except KeyboardInterrupt:
        print(watching.STOPPED_WATCHING, file=sys.stderr)
        return EXIT_INTERRUPTED
    if args.json:
        output.print_json(answer)
    elif args.wait:
        watching.print_dream(answer.dream)
    else:
        _print_trigger(answer)
        if answer.dream.state == Dream.STATE_RUNNING:
            print("`dreamsvc status --watch` shows it, `dreamsvc abort` ends it")
    return watching.exit_code(answer.dream)


def _print_trigger(answer: TriggerResponse) -> None:
    verb = "goes on" if answer.resumed else "began"
    dream = answer.dream
    if dream.state in (Dream.STATE_RUNNING, Dream.STATE_FOLDING):
        budget = output.seconds_text(dream.budget_seconds)
        waits = "; it will wait to be approved" if dream.propose else ""
        print(f"dream {dream.id} {verb} (seed {dream.seed}, budget {budget}){waits}", flush=True)
    else:
        said = f": {output.plain(dream.message)}" if dream.message else ""
        print(f"dream {dream.id} is {watching.state_word(dream)}{said}", flush=True)


def _abort_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dream", metavar="DREAM", nargs="?", default="", help="its id (default: whatever dreams)")
    parser.add_argument("--discard", action="store_true", help="give the dream up; nothing of it is kept")
    add_call_arguments(parser)


def _abort(client: Client, args: argparse.Namespace) -> int:
    answer = client.abort(args.space, args.dream, discard=args.discard)
    if args.json:
        output.print_json(answer)
    else:
        print(_abort_text(answer))
    return EXIT_OK


def _abort_text(answer: AbortResponse) -> str:
    if not answer.was_dreaming:
        discarded = answer.dream.state == Dream.STATE_DISCARDED
        return f"nothing dreamed; {answer.dream.id} is given up" if discarded else "nothing dreamed"
    kept = {
        Dream.STATE_SUSPENDED: "the next trigger goes on with it",
        Dream.STATE_DISCARDED: "it is given up",
        Dream.STATE_FOLDING: "it was sealed before, and is being applied",
        Dream.STATE_SUCCEEDED: "it had just succeeded",
        Dream.STATE_PROPOSED: "it had just ended, and waits to be approved",
    }.get(answer.dream.state, f"it is {watching.state_word(answer.dream)}")
    killed = "; the dreamer missed its time and was killed" if answer.killed else ""
    return f"awake after {answer.wake_latency_ms:.1f} ms{killed}; dream {answer.dream.id}: {kept}"


def _revert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dream", metavar="DREAM", help="its id, as `dreamsvc dreams` lists it")
    add_call_arguments(parser)


def _revert(client: Client, args: argparse.Namespace) -> int:
    answer = client.revert(args.dream, args.space)
    if args.json:
        output.print_json(answer)
    else:
        print(_revert_text(answer))
    return EXIT_OK


def _revert_text(answer: RevertResponse) -> str:
    memories = counted(answer.memories_restored, "memory", "memories")
    restored = f"{memories} and {counted(answer.edges_restored, 'edge', 'edges')} are as before"
    removed = [
        counted(answer.memories_removed, "memory", "memories") if answer.memories_removed else "",
        counted(answer.edges_removed, "edge", "edges") if answer.edges_removed else "",
    ]
    made = " and ".join(part for part in removed if part)
    gone = f"; {made} that it had made are gone" if made else ""
    return f"dream {answer.dream.id} is taken back: {restored}{gone}"


COMMANDS = {
    "dream": Command(
        description="Starts a dream, or goes on with an interrupted one. Queries are answered all the while.",
        examples="""
            dream --watch
            dream --budget 90s --seed 7 --wait --json
            dream --dry-run --watch
            dream --propose --wait
        """,
        add_arguments=_dream_arguments,
        run=calling(_dream),
        exit_codes=EXIT_CODES,
    ),
    "abort": Command(
        description="Wakes a space and tells how long that took. Without --discard the next trigger goes on.",
        examples="""
            abort
            abort --discard
        """,
        add_arguments=_abort_arguments,
        run=calling(_abort),
    ),
    "revert": Command(
        description="Takes a dream back: the memory is as it was before it. Refused where it was changed again later.",
        examples="""
            revert 01890a5d-ac96-774b-bcce-b302099a8057
        """,
        add_arguments=_revert_arguments,
        run=calling(_revert),
    ),
}
