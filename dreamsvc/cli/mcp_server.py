"""The service as tools of the Model Context Protocol, by its official SDK."""

import json
from typing import Any

import anyio
import anyio.to_thread
import jsonschema
from dreamsvc_client import Client, DreamsvcCallError
from mcp import MCPError, types
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server

from dreamsvc import __version__
from dreamsvc.cli.mcp_tools import TOOLS, with_defaults

INTERNAL = -32603


def server_for(client: Client, space: str) -> Server[Any]:
    """An MCP server whose tools call a dreamsvc server; `space` is meant where a call names none."""

    async def list_tools(
        _: ServerRequestContext[Any], __: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=name,
                    description=tool.description,
                    input_schema=tool.schema,
                    annotations=types.ToolAnnotations(read_only_hint=tool.reads, open_world_hint=False),
                )
                for name, tool in TOOLS.items()
            ]
        )

    async def call_tool(_: ServerRequestContext[Any], asked: types.CallToolRequestParams) -> types.CallToolResult:
        if asked.name not in TOOLS:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {asked.name}; there are {', '.join(TOOLS)}")
        tool = TOOLS[asked.name]
        given = with_defaults(tool, {"space": space, **(asked.arguments or {})})
        try:
            jsonschema.validate(given, tool.schema)
        except jsonschema.ValidationError as error:
            path = ".".join(str(part) for part in error.absolute_path) or asked.name
            raise MCPError(types.INVALID_PARAMS, f"{path}: {error.message}") from error
        try:
            # The client blocks; a call that waits for a dream must not keep the others waiting.
            answer = await anyio.to_thread.run_sync(tool.call, client, given, abandon_on_cancel=True)
        except DreamsvcCallError as error:
            raise as_mcp(error) from error
        text = json.dumps(answer, ensure_ascii=False)
        return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=answer)

    return Server(
        "dreamsvc",
        version=__version__,
        instructions="A long-term memory that dreams: store with remember, find with recall_memories; while nobody"
        " asks, trigger_dream consolidates it. A query wakes it at once.",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def as_mcp(error: DreamsvcCallError) -> MCPError:
    """The error of a call, with the code of the catalogue (REQ-DREAM-032), the hint and the trace id."""
    if error.unreachable:
        return MCPError(INTERNAL, "no dreamsvc server answers; start one with: dreamsvc serve")
    data: dict[str, Any] = {"reason": error.reason, "hint": error.hint, "trace_id": error.trace_id}
    data["violations"] = [violation._asdict() for violation in error.violations]
    if error.retry_after_s is not None:
        data["retry_after_s"] = error.retry_after_s
    return MCPError(int(error.metadata.get("code", INTERNAL)), error.message, data)


async def serve_stdio(client: Client, space: str) -> None:
    """Speaks on standard input and output until the input ends."""
    server = server_for(client, space)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())
