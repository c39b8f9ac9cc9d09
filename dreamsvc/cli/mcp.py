"""`dreamsvc mcp`: the service as tools for agents that start their tools as programs."""

import argparse
from importlib.util import find_spec

from dreamsvc_client import CredentialsError

from dreamsvc.cli.call import HOW_TO_SAY_WHO, client_for
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, Command, add_call_arguments
from dreamsvc.cli.problems import print_problem


def _run(args: argparse.Namespace) -> int:
    if find_spec("mcp") is None:
        print_problem("the SDK of MCP is not installed", as_json=args.json, hint="pip install 'dreamsvc[mcp]'")
        return EXIT_FAILED
    # Only here, since it is an extra and takes a second.
    import anyio

    from dreamsvc.cli.mcp_server import serve_stdio

    try:
        with client_for(args) as client:
            anyio.run(serve_stdio, client, args.space)
    except (CredentialsError, OSError) as error:
        print_problem(str(error), as_json=args.json, hint=HOW_TO_SAY_WHO)
        return EXIT_FAILED
    return EXIT_OK


COMMANDS = {
    "mcp": Command(
        description="Speaks the Model Context Protocol on standard input and output, and calls a running server. In the"
        " configuration of an agent it is the command `dreamsvc` with the argument `mcp`. Needs the extra `mcp`.",
        examples="""
            mcp
            mcp --server 127.0.0.1:50051 --space work
        """,
        add_arguments=add_call_arguments,
        run=_run,
    ),
}
