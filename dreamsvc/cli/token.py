"""`dreamsvc token`: bearer tokens made, listed and revoked, in the file that a service reads; it need not run."""

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

from dreamsvc import bearer_tokens, clock
from dreamsvc.bearer_tokens import ADMIN, ALL_SPACES, SCOPES
from dreamsvc.cli import output
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Command, add_json_argument
from dreamsvc.cli.problems import print_dreamsvc_error, print_notice, print_problem
from dreamsvc.config_sources import Sources
from dreamsvc.errors import DreamsvcError
from dreamsvc.v1.access_pb2 import StoredToken

_US_OF = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000}
AGENT = tuple(scope for scope in SCOPES if scope != ADMIN)


def _arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="create|list|revoke")
    create = verbs.add_parser("create", help="make one; it is shown this once", description="Makes a token.")
    create.add_argument("name", metavar="NAME", help="whose it is, for lists, logs and errors")
    create.add_argument(
        "--scope",
        metavar="SCOPE",
        action="append",
        help=f"what it allows, may be repeated: {', '.join(SCOPES)}, which is all of them (default: all but admin)",
    )
    create.add_argument(
        "--space", metavar="SPACE", action="append", help="the spaces it is for, may be repeated (default: all)"
    )
    create.add_argument(
        "--expires", metavar="TIME", type=_lifetime_us, help="how long it holds, e.g. 90d, 12h or 30m (default: always)"
    )
    listing = verbs.add_parser("list", help="what is known of all of them", description="Lists tokens.")
    revoke = verbs.add_parser("revoke", help="end some", description="Revokes tokens, within a second.")
    revoke.add_argument("which", metavar="ID|NAME", help="the id of one, or the name of some")
    for verb in (create, listing, revoke):
        verb.add_argument("--config", metavar="FILE", type=Path, help="the service's; it says where the tokens are")
        verb.add_argument("--store", metavar="PATH", help="the service's store, if it was started with --store")
        add_json_argument(verb)


def _lifetime_us(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,6})([dhm])", text)
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90d, 12h or 30m")
    return int(found[1]) * _US_OF[found[2]]


def _run(args: argparse.Namespace) -> int:
    try:
        options = {"store.path": ("--store", args.store)} if args.store is not None else {}
        settings = Sources(args.config, dict(os.environ), options).read().config
        path = bearer_tokens.path_of(settings)
        if path is None:
            what = f'a store "{settings.store.path}" has no file of tokens beside it'
            print_problem(what, as_json=args.json, hint="name one in the configuration: security.tokens_file")
            return EXIT_USAGE
        return {"create": _create, "list": _list, "revoke": _revoke}[args.verb](args, path)
    except DreamsvcError as error:
        print_dreamsvc_error(error, as_json=args.json)
        return EXIT_FAILED


def _create(args: argparse.Namespace, path: Path) -> int:
    now_us = clock.Clock().now_us()
    made = bearer_tokens.make(
        name=args.name,
        scopes=args.scope or AGENT,
        spaces=args.space or [ALL_SPACES],
        now_us=now_us,
        expire_us=None if args.expires is None else now_us + args.expires,
    )
    is_first = not path.exists()
    bearer_tokens.add(path, made)
    if args.json:
        print(json.dumps({"token": made.text, **_told(made.stored, now_us), "file": str(path)}))
        return EXIT_OK
    # The token alone is on standard output, so that a script can keep it.
    print(made.text)
    print_notice(f"This is the only time that it is shown. {_line(made.stored, now_us)}; its digest is in {path}")
    if is_first:
        print_notice(
            "From now on the service asks for a token, also on this machine, unless security.auth says otherwise."
        )
    return EXIT_OK


def _list(args: argparse.Namespace, path: Path) -> int:
    now_us = clock.Clock().now_us()
    tokens = bearer_tokens.read(path).tokens
    if args.json:
        print(json.dumps({"tokens": [_told(token, now_us) for token in tokens], "file": str(path)}))
        return EXIT_OK
    if not tokens:
        print(f"no tokens in {path}")
        return EXIT_OK
    table = output.table("ID", "NAME", "SCOPES", "SPACES", "CREATED", "EXPIRES")
    for token in tokens:
        spaces = "all" if ALL_SPACES in token.spaces else ", ".join(token.spaces)
        table.add_row(
            *(token.id, token.name, ", ".join(token.scopes), spaces),
            *(output.time_text(token.create_time), _expiry(token, now_us)),
        )
    output.console().print(table)
    return EXIT_OK


def _revoke(args: argparse.Namespace, path: Path) -> int:
    now_us = clock.Clock().now_us()
    gone = bearer_tokens.revoke(path, args.which)
    if args.json:
        print(json.dumps({"revoked": [_told(token, now_us) for token in gone]}))
    else:
        for token in gone:
            print(f"revoked {token.id} ({token.name})")
    return EXIT_OK


def _told(token: StoredToken, now_us: int) -> dict[str, Any]:
    expires_us = bearer_tokens.expires_us(token)
    return {
        "id": token.id,
        "name": token.name,
        "scopes": list(token.scopes),
        "spaces": list(token.spaces),
        "create_time": clock.iso(clock.from_timestamp(token.create_time)),
        "expire_time": None if expires_us is None else clock.iso(expires_us),
        "expired": bearer_tokens.expired(token, now_us),
    }


def _line(token: StoredToken, now_us: int) -> str:
    spaces = "all spaces" if ALL_SPACES in token.spaces else f"spaces {', '.join(token.spaces)}"
    return f"{token.name}: {', '.join(token.scopes)}; {spaces}; expires {_expiry(token, now_us)}"


def _expiry(token: StoredToken, now_us: int) -> str:
    if bearer_tokens.expires_us(token) is None:
        return "never"
    text = output.time_text(token.expire_time)
    return f"{text} (expired)" if bearer_tokens.expired(token, now_us) else text


COMMANDS = {
    "token": Command(
        description="Makes, lists and revokes bearer tokens. The file has their digests only; a running service reads"
        " it again within a second. A call sends its token as `authorization: Bearer TOKEN`; commands take it from"
        " DREAMSVC_TOKEN, --token-file or --token.",
        examples="""
            token create agent-7 --space work
            token create operator --scope admin --expires 90d
            token list
            token revoke agent-7
        """,
        add_arguments=_arguments,
        run=_run,
    ),
}
