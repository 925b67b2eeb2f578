"""What the libraries alone cost: asyncssh streams one request from a worker's socket.

Arguments: more modules to import.
Standard input: JSON with host, port, username, client_key, known_hosts, socket, key, body.
"""

import asyncio
import importlib
import json
import sys

import asyncssh

for name in sys.argv[1:]:
    importlib.import_module(name)


async def main(given: dict[str, str]) -> None:
    body = given["body"].encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: Bearer {given['key']}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    async with asyncssh.connect(
        given["host"],
        int(given["port"]),
        username=given["username"],
        client_keys=[given["client_key"]],
        known_hosts=given["known_hosts"],
        agent_path=None,
        config=None,
    ) as connection:
        reader, writer = await connection.open_unix_connection(given["socket"], encoding=None)
        writer.write(head.encode() + body)
        while data := await reader.read(65536):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


asyncio.run(main(json.load(sys.stdin)))
