"""One file by asyncssh's SFTP: as many blocks in flight as are of use, each as large as OpenSSH takes.

Standard input: JSON with host, port, username, client_key, known_hosts, source, target.
"""

import asyncio
import json
import sys

import asyncssh


async def main(given: dict[str, str]) -> None:
    async with (
        asyncssh.connect(
            given["host"],
            int(given["port"]),
            username=given["username"],
            client_keys=[given["client_key"]],
            known_hosts=given["known_hosts"],
            encryption_algs=["aes128-gcm@openssh.com"],
            agent_path=None,
            config=None,
        ) as connection,
        connection.start_sftp_client() as sftp,
    ):
        await sftp.put(given["source"], given["target"], block_size=128 * 1024, max_requests=64)


asyncio.run(main(json.load(sys.stdin)))
