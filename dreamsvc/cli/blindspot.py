"""`dreamsvc blindspot` and `feedback`: what a dream found, and what a user says of it and of recalls."""

import argparse

from dreamsvc_client import Client

from dreamsvc.cli import output
from dreamsvc.cli.call import calling
from dreamsvc.cli.command import EXIT_OK, EXIT_USAGE, Command, add_call_arguments, count, next_page
from dreamsvc.cli.output import counted
from dreamsvc.cli.problems import print_problem
from dreamsvc.v1.blind_spot_pb2 import BlindSpot, BlindSpotEnd

STATES = {name.removeprefix("STATE_").lower(): number for name, number in BlindSpot.State.items() if number}
ACTIONS = ("list", "accept", "reject")
_TEXT_SHOWN = 100


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, nargs="?", default="list", help="what to do (default: list)")
    parser.add_argument("id", metavar="ID", nargs="?", default="", help="of the find to accept or to reject")
    parser.add_argument("--state", choices=STATES, action="append", help="list only these; may be repeated")
    parser.add_argument("--dream", metavar="DREAM", default="", help="list only what this dream found")
    parser.add_argument("--limit", metavar="N", type=count, default=20, help="how many to list (default: 20)")
    parser.add_argument("--page-token", default="", help="where the list before ended")
    add_call_arguments(parser)


def _blindspot(client: Client, args: argparse.Namespace) -> int:
    if args.action == "list":
        if args.id:
            print_problem(f"list takes no id; did you mean --dream {args.id}?", as_json=args.json)
            return EXIT_USAGE
        return _list(client, args)
    if not args.id:
        print_problem(
            f"which one? dreamsvc blindspot {args.action} ID; `dreamsvc blindspot` lists them", as_json=args.json
        )
        return EXIT_USAGE
    if args.action == "accept":
        answer = client.accept_blind_spot(args.id, args.space)
        told = "is accepted: its edge is trusted from now on"
    else:
        answer = client.reject_blind_spot(args.id, args.space)
        told = "is rejected: it has no edge, and no dream proposes it again"
    if args.json:
        output.print_json(answer)
    else:
        print(f"{_pair_text(answer.blind_spot)}\n{told}")
    return EXIT_OK


def _list(client: Client, args: argparse.Namespace) -> int:
    page = client.list_blind_spots(
        args.space,
        states=[STATES[name] for name in args.state or ()],
        dream_id=args.dream,
        page_size=args.limit,
        page_token=args.page_token,
    )
    if args.json:
        output.print_json(page)
        return EXIT_OK
    for spot in page.blind_spots:
        output.print_text(_spot_text(spot))
    if not page.blind_spots:
        print("no blind spots")
    if page.next_page_token:
        filters = {"--state": args.state or (), "--dream": [args.dream]}
        print(next_page("blindspot", page.next_page_token, args, filters))
    return EXIT_OK


def _spot_text(spot: BlindSpot) -> str:
    state = output.word(BlindSpot.State, spot.state, "STATE_")
    lines = [
        f"{spot.id}  {state}, confidence {spot.confidence:.2f}",
        *(f"    {line}" for line in _pair_text(spot).splitlines()),
        f"    far in meaning by {spot.semantic_distance:.2f}, reach in common {spot.causal_overlap:.2f}",
    ]
    # Where both meet is in the evidence, in fewer words.
    if spot.evidence:
        lines.append("    " + "; ".join(output.plain(evidence) for evidence in spot.evidence))
    return "\n".join(lines)


def _pair_text(spot: BlindSpot) -> str:
    return f"{_end_text(spot.source)}\n{_end_text(spot.target)}"


def _end_text(end: BlindSpotEnd) -> str:
    """With the name that `dreamsvc get` takes: two memories may have one title."""
    name = output.plain(end.key or end.id)
    return f"“{output.shortened(end.text, _TEXT_SHOWN)}”  [{name}]" if end.text else name


def _feedback_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recall", metavar="RECALL_ID", help="of the recall, which `recall` tells, also with --json")
    parser.add_argument("ids", metavar="ID", nargs="+", help="ids or keys of the memories that were of use together")
    add_call_arguments(parser)


def _feedback(client: Client, args: argparse.Namespace) -> int:
    answer = client.feedback(args.recall, args.ids, args.space)
    if args.json:
        output.print_json(answer)
    elif answer.pairs:
        print(f"{counted(answer.pairs, 'pair is', 'pairs are')} noted; the next dream strengthens what joins them")
    else:
        print("one memory makes no pair; nothing is noted")
    return EXIT_OK


COMMANDS = {
    "blindspot": Command(
        description=(
            "Lists what REM phases found: memories far apart in meaning that belong together, and why.\n"
            "Verified: texts or times of both speak for it too. Hypothesis: the structure of the graph alone does.\n"
            "Of a pair that is accepted the edge is trusted; one that is rejected is never proposed again."
        ),
        examples="""
            blindspot
            blindspot --state verified --limit 5
            blindspot --dream 01890a5d-ac96-774b-bcce-b302099a8057 --json | jq -r '.blind_spots[].evidence[]'
            blindspot accept 01890a5d-ac96-874b-bcce-b302099a8057
            blindspot reject 01890a5d-ac96-874b-bcce-b302099a8057
        """,
        add_arguments=_arguments,
        run=calling(_blindspot),
    ),
    "feedback": Command(
        description=(
            "Says which memories of a recall were of use together; the next dream strengthens what joins them.\n"
            "A recall is known for an hour, and until the server restarts."
        ),
        examples="""
            feedback 01890a5d-ac96-774b-bcce-b302099a8057 deploy-steps vpn-rules
        """,
        add_arguments=_feedback_arguments,
        run=calling(_feedback),
    ),
}
