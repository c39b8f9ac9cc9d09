"""`dreamsvc dreams`: the nights of a space, one of them, and how they went over time."""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

from dreamsvc_client import Client

from dreamsvc.cli import output, trend, watching
from dreamsvc.cli.call import calling
from dreamsvc.cli.command import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_USAGE,
    Command,
    add_call_arguments,
    count,
    moment,
    next_page,
)
from dreamsvc.cli.problems import print_problem
from dreamsvc.clock import from_timestamp, iso
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import ListDreamsResponse

STATES = {name.removeprefix("STATE_").lower(): number for name, number in Dream.State.items() if number}
FORMATS = ("png", "svg")
LISTED, COMPARED = 20, 100


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dream", metavar="DREAM", nargs="?", help="show this one with its report")
    parser.add_argument("--delete", action="store_true", help="delete the record of DREAM, once it is needed no more")
    parser.add_argument("--state", choices=STATES, action="append", help="only dreams in this state; may be repeated")
    parser.add_argument("--after", metavar="ISO", type=moment, help="only dreams that began at or after this")
    parser.add_argument("--before", metavar="ISO", type=moment, help="only dreams that began before this")
    parser.add_argument("--limit", metavar="N", type=count, help=f"how many (default: {LISTED}, of a trend {COMPARED})")
    parser.add_argument("--page-token", default="", help="where the list before ended")
    parser.add_argument("--trend", action="store_true", help="each metric over the nights, the oldest on the left")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="the same as a picture, FILE.png or FILE.svg")
    add_call_arguments(parser)


def _dreams(client: Client, args: argparse.Namespace) -> int:
    if args.delete:
        return _delete(client, args)
    if args.dream:
        return _show(client, args)
    if args.trend or args.plot is not None:
        return _trend(client, args)
    return _list(client, args)


def _show(client: Client, args: argparse.Namespace) -> int:
    dream = client.dream(args.dream, args.space)
    if args.json:
        output.print_json(dream)
    else:
        watching.print_dream(dream)
    return EXIT_OK


def _delete(client: Client, args: argparse.Namespace) -> int:
    if not args.dream:
        print_problem("--delete needs the id of a dream", as_json=args.json)
        return EXIT_USAGE
    answer = client.delete_dream(args.dream, args.space)
    if args.json:
        output.print_json(answer)
    else:
        print(f"the record of dream {answer.dream.id} ({watching.state_word(answer.dream)}) is deleted")
    return EXIT_OK


def _list(client: Client, args: argparse.Namespace) -> int:
    page = client.dreams(
        args.space,
        page_size=args.limit or LISTED,
        page_token=args.page_token,
        states=[STATES[name] for name in args.state or ()],
        after=args.after,
        before=args.before,
    )
    if args.json:
        output.print_json(page)
        return EXIT_OK
    if not page.dreams:
        print("no dreams")
        return EXIT_OK
    _print_list(page)
    if page.next_page_token:
        times = {
            option: [iso(from_timestamp(time))] if time is not None else []
            for option, time in (("--after", args.after), ("--before", args.before))
        }
        print(next_page("dreams", page.next_page_token, args, {"--state": args.state or (), **times}))
    return EXIT_OK


def _print_list(page: ListDreamsResponse) -> None:
    listed = output.table(
        *("dream", "started (UTC)", "state", ">ratio", ">replayed"),
        *(">stronger", ">weaker", ">pruned", ">links", ">finds", ">time"),
    )
    for dream in page.dreams:
        report = dream.report
        listed.add_row(
            dream.id,
            output.time_text(dream.start_time)[:16],
            watching.state_word(dream) + (" (dry run)" if dream.dry_run else ""),
            output.ratio_text(report.compression.nodes_before, report.compression.nodes_after),
            f"{report.nodes_replayed:,}",
            f"{report.edges_strengthened:,}",
            f"{report.edges_weakened:,}",
            f"{report.edges_pruned:,}",
            f"{report.exploration.linking.links:,}",
            f"{report.exploration.verified:,}",
            output.seconds_text(report.seconds),
        )
    output.console().print(listed)


def _trend(client: Client, args: argparse.Namespace) -> int:
    target: Path | None = args.plot
    file_format = target.suffix.lower().removeprefix(".") if target is not None else ""
    if args.state or args.page_token:
        print_problem("--trend and --plot are of all nights: without --state and --page-token", as_json=args.json)
        return EXIT_USAGE
    if target is not None and file_format not in FORMATS:
        print_problem(f"{target}: the name has to end in .png or .svg", as_json=args.json)
        return EXIT_USAGE
    if target is not None and find_spec("matplotlib") is None:
        print_problem("matplotlib is not installed", as_json=args.json, hint="pip install 'dreamsvc[draw]'")
        return EXIT_FAILED
    dreams = trend.fetch(client, args.space, args.limit or COMPARED, args.after, args.before)
    nights = trend.nights_of(dreams)
    if not nights:
        print_problem("no night was applied yet", as_json=args.json, hint="run `dreamsvc dream --watch` first")
        return EXIT_FAILED
    if target is not None:
        # Half a second, and only where it is installed.
        from dreamsvc.cli import trend_drawing

        target.write_bytes(trend_drawing.draw(dreams, args.space, file_format))
    if args.json:
        print(json.dumps(_as_json(nights, target), ensure_ascii=False))
        return EXIT_OK
    if args.trend:
        _print_trend(dreams, nights)
    if target is not None:
        print(f"{target}: {output.counted(len(nights), 'night', 'nights')} of the space {args.space}")
    return EXIT_OK


def _print_trend(dreams: list[Dream], nights: list[trend.Night]) -> None:
    print(trend.summary(dreams))
    listed = output.table("", ">last", ">median", ">least", ">most", "oldest to newest")
    for row in trend.rows(nights):
        listed.add_row(*row)
    output.console().print(listed)


def _as_json(nights: list[trend.Night], target: Path | None) -> dict[str, object]:
    """Numbers of each night, the oldest first; null where it did not measure one."""
    return {
        "file": str(target) if target is not None else "",
        "nights": [
            {
                "dream_id": night.dream.id,
                "start_time": iso(from_timestamp(night.dream.start_time)),
                **{name: value for name, value in night._asdict().items() if name != "dream"},
            }
            for night in nights
        ],
    }


COMMANDS = {
    "dreams": Command(
        description="Lists the nights of a space, the newest first, shows or deletes one, or shows all over time.",
        examples="""
            dreams --limit 5
            dreams --state suspended --state failed
            dreams --after 2026-03-01 --before 2026-04-01
            dreams 01890a5d-ac96-774b-bcce-b302099a8057 --json
            dreams --trend
            dreams --plot nights.png
            dreams 01890a5d-ac96-774b-bcce-b302099a8057 --delete
        """,
        add_arguments=_arguments,
        run=calling(_dreams),
    ),
}
