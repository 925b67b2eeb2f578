"""`rbee tunnel`: a worker under a local port, for other programs."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import command
from rbee_ssh.cli.shapes import shape

if TYPE_CHECKING:
    from rbee_ssh.workers.tunnel import TunnelInfo


@command(short_help="Forward a local port to a worker.")
@click.argument("worker", metavar="WORKER")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="The local port. Default: any free one.",
)
@pass_cli
def tunnel(cli: Cli, worker: str, port: int) -> None:
    """Forward a port of this machine to a worker, until Ctrl+C.

    Prints the base URL of its OpenAI-style API, and a curl line that works as it stands: it reads the API key
    from a file that only you can read. A worker that ends meanwhile is found or started again at the next
    connection.

    \b
      rbee workers list
      rbee tunnel 3f9a --port 8080
    """
    from rbee_ssh.workers.tunnel import tunnel as forward

    def announce(info: TunnelInfo) -> None:
        if cli.as_json:
            cli.console.json({"event": "tunnel", **shape(info, "base_url header_file worker model")})
            return
        cli.console.line(info.base_url)
        cli.console.line(curl_line(info.base_url, info.header_file))
        cli.console.say(f"forwarding to {info.worker} until Ctrl+C")

    cli.run(lambda pool: forward(pool, worker, port=port, announce=announce))


def curl_line(base_url: str, header_file: str) -> str:
    """A command that asks the worker something, without the key in it."""
    body = '{"messages":[{"role":"user","content":"Say hi"}],"stream":true}'
    return (
        f"curl -N -H {shlex.quote('@' + header_file)} -H 'Content-Type: application/json' "
        f"-d {shlex.quote(body)} {shlex.quote(base_url + '/chat/completions')}"
    )
