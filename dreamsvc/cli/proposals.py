"""`dreamsvc estimate`, `diff`, `approve` and `reject`: a dream before it is let in."""

import argparse
import shlex

from dreamsvc_client import Client

from dreamsvc.cli import diff_text, output, watching
from dreamsvc.cli.call import calling
from dreamsvc.cli.command import EXIT_CODES, EXIT_OK, Command, add_call_arguments, count
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import EstimateDreamResponse

# The most that the contract allows: a diff is read to its end, for the counts.
_PAGE_SIZE = 1000
_EDITS_SHOWN = 20
_MEMORIES_SHOWN = 10

APPROVE_EXIT_CODES = """exit codes:
  0    the dream is applied, or is being applied
  1    the call failed
  2    wrong usage
  3    it could not be applied: it failed or was given up
  130  interrupted"""


def _dream_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dream", metavar="DREAM", help="its id, as `dreamsvc status` and `dreamsvc dreams` show it")
    add_call_arguments(parser)


def _approve(client: Client, args: argparse.Namespace) -> int:
    answer = client.approve(args.dream, args.space)
    dream = answer.dream
    if args.json:
        output.print_json(answer)
    elif dream.state == Dream.STATE_SUCCEEDED:
        shows, reverts = watching.command("dreams", dream), watching.command("revert", dream)
        print(f"dream {dream.id} is applied; `{shows}` shows its report, `{reverts}` takes it back")
    elif dream.state in (Dream.STATE_RUNNING, Dream.STATE_FOLDING):
        print(f"dream {dream.id} is being applied; `{watching.command('dreams', dream)}` shows it")
    else:
        said = f": {output.plain(dream.message)}" if dream.message else ""
        print(f"dream {dream.id} is {watching.state_word(dream)}{said}")
    return watching.exit_code(dream)


def _reject(client: Client, args: argparse.Namespace) -> int:
    answer = client.reject(args.dream, args.space)
    if args.json:
        output.print_json(answer)
    else:
        print(f"dream {answer.dream.id} is given up; nothing of it was applied")
    return EXIT_OK


def _diff_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dream", metavar="DREAM", help="its id; of a proposal: what it would do, else what it did")
    parser.add_argument("--weights", action="store_true", help="also edges of which only the weight changed")
    parser.add_argument("--ids", action="store_true", help="the ids of memories too")
    cut = parser.add_mutually_exclusive_group()
    cut.add_argument(
        "--limit",
        metavar="N",
        type=count,
        default=_EDITS_SHOWN,
        help=f"edits of each kind to show (default: {_EDITS_SHOWN}; with --json all are printed, one a line)",
    )
    cut.add_argument("--all", action="store_true", help="show all edits, with all their memories")
    add_call_arguments(parser)


def _diff(client: Client, args: argparse.Namespace) -> int:
    edits = client.diff(args.dream, args.space, with_weights=args.weights, page_size=_PAGE_SIZE)
    if args.json:
        for edit in edits:
            output.print_json(edit)
        return EXIT_OK
    dream = client.dream(args.dream, args.space)
    detail = diff_text.Detail(
        edits=None if args.all else args.limit, memories=None if args.all else _MEMORIES_SHOWN, ids=args.ids
    )
    found = diff_text.grouped(edits, detail)
    print(_heading(dream))
    print(diff_text.summary(found.counts))
    for line in diff_text.lines(found, detail, _see_all(args)):
        print(line)
    if not args.weights:
        print("\nedges of which only the weight changed are left out; --weights shows them")
    if dream.state == Dream.STATE_PROPOSED:
        print(f"\n{watching.proposal_text(dream)}")
    return EXIT_OK


def _heading(dream: Dream) -> str:
    word = watching.state_word(dream)
    match dream.state:
        case Dream.STATE_SUCCEEDED:
            told = "it did this"
        case Dream.STATE_PROPOSED:
            told = "it would do this, and nothing of it is applied yet"
        case Dream.STATE_REVERTED:
            told = "it had done this, and it is taken back"
        case _:
            told = "its edits so far"
    return f"dream {dream.id}, {word}: {told}"


def _see_all(args: argparse.Namespace) -> str:
    words = ["dreamsvc", "diff", args.dream, "--all"]
    words += ["--weights"] if args.weights else []
    words += ["--ids"] if args.ids else []
    words += ["--space", args.space] if args.space != "default" else []
    return shlex.join(words)


def _estimate(client: Client, args: argparse.Namespace) -> int:
    estimate = client.estimate(args.space)
    if args.json:
        output.print_json(estimate)
    else:
        print_estimate(estimate)
    return EXIT_OK


def print_estimate(estimate: EstimateDreamResponse) -> None:
    basis = f", by {estimate.basis}" if estimate.basis else ""
    output.print_pairs(
        [
            ("memories", f"{estimate.nodes:,} read, at most {estimate.nodes_touched:,} changed"),
            ("edges", f"{estimate.edges:,} read, at most {estimate.edges_touched:,} changed"),
            ("time", f"at most {output.seconds_text(estimate.seconds)}{basis}"),
            ("snapshot", f"{output.bytes_text(estimate.snapshot_bytes)} on the disk"),
            ("journal", f"at most {output.bytes_text(estimate.journal_bytes)} on the disk"),
            ("memory", f"at most {output.bytes_text(estimate.memory_bytes)}, of the process that dreams"),
            ("why not now", estimate.why_not_dreaming),
            (
                "by itself from",
                output.time_text(estimate.next_eligible_time) if estimate.HasField("next_eligible_time") else "",
            ),
        ]
    )


COMMANDS = {
    "estimate": Command(
        description="What a dream would touch and take, without dreaming. Upper bounds.",
        examples="""
            estimate
            estimate --space notes --json
        """,
        add_arguments=add_call_arguments,
        run=calling(_estimate),
    ),
    "diff": Command(
        description=(
            "Every edit of a dream for a person to read: what was merged, made and removed.\n"
            "Of a proposal it shows what approving it would do. --json prints one edit a line."
        ),
        examples="""
            diff 01890a5d-ac96-774b-bcce-b302099a8057
            diff 01890a5d-ac96-774b-bcce-b302099a8057 --weights --limit 100
            diff 01890a5d-ac96-774b-bcce-b302099a8057 --json | jq -r 'select(.kind == "KIND_MERGED").what'
        """,
        add_arguments=_diff_arguments,
        run=calling(_diff),
        exit_codes=EXIT_CODES,
    ),
    "approve": Command(
        description="Applies a dream that waits as a proposal. `dreamsvc revert` takes it back later.",
        examples="""
            approve 01890a5d-ac96-774b-bcce-b302099a8057
        """,
        add_arguments=_dream_argument,
        run=calling(_approve),
        exit_codes=APPROVE_EXIT_CODES,
    ),
    "reject": Command(
        description="Gives a dream up that waits as a proposal. Nothing of it is applied.",
        examples="""
            reject 01890a5d-ac96-774b-bcce-b302099a8057
        """,
        add_arguments=_dream_argument,
        run=calling(_reject),
    ),
}
