"""Opening connections: every node and every hop the same way, retried where a retry can help."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
import re
import resource
import socket
import time
from collections.abc import AsyncIterator, Mapping

from rbee_ssh.errors import JumpFailed, NodeFault, NodeUnreachable, SessionLimit, UsageFault
from rbee_ssh.inventory import Node, Timeouts, check_keys
from rbee_ssh.ssh import destination
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.destination import MAX_HOPS, Destination
from rbee_ssh.ssh.lean import asyncssh
from rbee_ssh.ssh.login import login

RETRY_WAITS = (0.2, 0.4)
# A server that hangs up during a login is alive, and has too many of them at the moment (MaxStartups).
DROPPED_WAITS = (0.2, 0.5, 1.0, 2.0)
# Files that a connection may take: its socket, one to the agent, a ProxyCommand's pipes.
FILES_PER_NODE = 5

log = logging.getLogger("rbee.ssh")


class Connector:
    """The connections of one command. Hops are shared by the nodes behind them.

    Args:
        nodes: the inventory's nodes, which a hop may name.
        timeouts: connect, connect_tries and keepalive are used here.
    """

    def __init__(self, nodes: Mapping[str, Node], timeouts: Timeouts) -> None:
        self._nodes = nodes
        self.timeouts = timeouts
        self._hops: dict[tuple[str, ...], asyncio.Task[asyncssh.SSHClientConnection]] = {}
        self._all = LoginLimiter(LOGINS)
        self._through: dict[tuple[str, ...], LoginLimiter] = {}
        _make_room(len(nodes) * FILES_PER_NODE)

    async def connect(self, node: Node, *, tries: int | None = None) -> Connection:
        """Connect and authenticate.

        Args:
            tries: how often a network failure is tried; the inventory's connect_tries when None.

        Raises:
            NodeUnreachable, AuthFailed, HostKeyUnknown, HostKeyChanged, JumpFailed: what happened.
            SessionLimit: the server has too many logins under way, for longer than we wait.
            SshConfigInvalid, KeyNotFound, InventoryInvalid: before anything was sent.
        """
        started = time.monotonic()
        if node.embedded:
            from rbee_ssh.ssh import embedded

            ssh, server = await embedded.serve()
            log.info("%s: served in this process", node.name)
            seconds = time.monotonic() - started
            return Connection(node.name, ssh, self.timeouts, connect_seconds=seconds, server=server)
        target = destination.of_node(node)
        ssh, seconds = await self._reach(target, tries or self.timeouts.connect_tries)
        return Connection(node.name, ssh, self.timeouts, connect_seconds=seconds)

    async def tunnel_to(self, target: Destination) -> asyncssh.SSHClientConnection | None:
        """The connection through which `target` is reached; None when there is no hop.

        Raises:
            JumpFailed: a hop did not let us through.
        """
        if not target.hops:
            return None
        return await self._tunnel(target.hops, self.timeouts.connect_tries, target.label)

    def gate(self, target: Destination) -> LoginLimiter:
        """Where the login waits for its turn. Through a jump host, all have one server to pass."""
        if not target.hops and not target.proxy_command:
            return self._all
        return self._through.setdefault(target.hops, LoginLimiter(LOGINS_PER_HOP))

    async def close(self) -> None:
        """Close the hops. The connections through them are closed first, by their owners."""
        for task in self._hops.values():
            task.cancel()
        for hop in await asyncio.gather(*self._hops.values(), return_exceptions=True):
            if isinstance(hop, asyncssh.SSHClientConnection):
                hop.close()
                await hop.wait_closed()

    async def _reach(self, target: Destination, tries: int) -> tuple[asyncssh.SSHClientConnection, float]:
        """Through the hops of `target`, and in; and the seconds that the login took."""
        attempts: list[str] = []
        dropped = False
        for number in itertools.count():
            # For each try: what was wrong may be the hop's connection.
            tunnel = await self._tunnel(target.hops, tries, target.label) if target.hops else None
            try:
                async with self.gate(target).entered():
                    began = time.monotonic()
                    ssh = await login(target, tunnel, self.timeouts)
                    seconds = time.monotonic() - began
                    log.info(
                        "%s: opened %s port %d as %s%s in %.0f ms",
                        target.label,
                        target.host,
                        target.port,
                        target.user,
                        "".join(f" through {hop}" for hop in target.hops),
                        seconds * 1000,
                    )
                    return ssh, seconds
            except NodeFault as error:
                log.info("%s: refused: %s", target.label, error.code)
                raise
            except (OSError, asyncssh.Error) as error:
                attempts.append(reason(error))
                log.info("%s: try %d: %s", target.label, number + 1, attempts[-1])
                dropped = _dropped(error)
                waits = DROPPED_WAITS if dropped else _waits(tries)
                if number >= len(waits):
                    break
                await asyncio.sleep(waits[number] * random.uniform(0.5, 1.5))  # noqa: S311 # jitter, no secret
            except (ValueError, OverflowError) as error:
                attempts.append(reason(error))
                dropped = False
                break
        from rbee_ssh.ssh.refusals import complaint

        details = target.details | {"attempts": attempts}
        greeting = await complaint(target, self.timeouts) if dropped else ""
        if "MaxStartups" in greeting:
            raise SessionLimit(
                f"node {target.label!r} has too many logins under way, and took none of "
                f"{len(attempts)} tries: {greeting}",
                hint="raise MaxStartups in the node's sshd_config, or end what logs in there all the time",
                details=details,
            )
        if greeting:
            attempts[-1] += f"; it says: {greeting}"
        tries_made = "; ".join(f"try {n}: {text}" for n, text in enumerate(attempts, 1))
        raise NodeUnreachable(
            f"node {target.label!r} cannot be reached at {target.host} port {target.port}: "
            f"{tries_made if len(attempts) > 1 else attempts[0]}",
            hint=self._by_hand(target),
            details=details,
        )

    def _by_hand(self, target: Destination) -> str:
        """The ssh command that goes the same way."""
        from rbee_ssh.ssh.quote import ssh_words

        hops = [destination.of_hop(hop, self._nodes, hops=("none",)).address for hop in target.hops]
        return "ssh -v " + ssh_words(f"{target.user}@{target.alias}", target.port, hops=hops)

    async def _tunnel(self, hops: tuple[str, ...], tries: int, label: str) -> asyncssh.SSHClientConnection:
        if len(hops) > MAX_HOPS:
            raise JumpFailed(
                f"node {label!r}: more than {MAX_HOPS} jump hosts",
                hint="look for a ProxyJump that leads back to itself",
                details={"hops": list(hops)},
            )
        task = self._hops.get(hops)
        if task is None or _over(task):
            task = asyncio.ensure_future(self._open_hop(hops, tries))
            self._hops[hops] = task
        try:
            return await asyncio.shield(task)
        except UsageFault:
            raise
        except NodeFault as error:
            hop = hops[-1]
            if isinstance(error, JumpFailed):
                hop = error.details.get("hop", hop)
            raise JumpFailed(
                f"node {label!r}: jump host {hop!r} failed: {error.message}",
                hint=error.hint,
                details={"node": label, "hop": hop, "cause": error.code, **error.details},
            ) from error

    async def _open_hop(self, hops: tuple[str, ...], tries: int) -> asyncssh.SSHClientConnection:
        if hops[-1] in self._nodes:
            check_keys(self._nodes[hops[-1]])
        target = destination.of_hop(hops[-1], self._nodes, hops=hops[:-1])
        if target.hops and hops[-1] in target.hops:
            raise JumpFailed(
                f"jump host {hops[-1]!r} jumps through itself",
                hint="fix its ProxyJump or jump",
                details={"hop": hops[-1]},
            )
        return (await self._reach(target, tries))[0]


def _make_room(files: int) -> None:
    """Have the system allow so many more open files, as far as it does without root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + 128
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _waits(tries: int) -> tuple[float, ...]:
    """Seconds before each try but the first."""
    return tuple(RETRY_WAITS[min(n, len(RETRY_WAITS) - 1)] for n in range(tries - 1))


def _dropped(error: Exception) -> bool:
    """Whether the server closed the connection before the login was over."""
    return isinstance(error, asyncssh.ConnectionLost | ConnectionResetError)


def _over(hop: asyncio.Task[asyncssh.SSHClientConnection]) -> bool:
    """Whether the connection to a hop failed, or has ended since: the next command tries again."""
    return hop.done() and (hop.cancelled() or hop.exception() is not None or hop.result().is_closed())


def reason(error: BaseException) -> str:
    """A network failure in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, UnicodeError):
        return "that is not a host name"
    if isinstance(error, asyncssh.ConnectionLost):
        return f"the connection was closed during the login ({error.reason})"
    if isinstance(error, asyncssh.ChannelOpenError):
        return f"the jump host could not connect to it ({error.reason})"
    if isinstance(error, OSError):
        # asyncio's own strerror is "Connect call failed (…)", and for several addresses a list of those.
        numbers = (
            {error.errno} if error.errno else {int(n) for n in re.findall(r"\[Errno (\d+)\]", str(error))}
        )
        if isinstance(error, socket.gaierror) or not numbers:
            return error.strerror or str(error)
        return " and ".join(os.strerror(number).lower() for number in sorted(numbers))
    return str(error) or type(error).__name__


# With all of hundreds at once, the last one's time runs out while the first are worked on.
LOGINS = 64
# sshd's MaxStartups starts to drop logins at 10 at once.
LOGINS_PER_HOP = 8
# Who does not answer by then gives its place to the next: a dead node holds up no other.
PATIENCE = 0.5


class LoginLimiter:
    """Lets so many in at a time; who stays longer than PATIENCE seconds is not counted any more."""

    def __init__(self, places: int) -> None:
        self._free = asyncio.Semaphore(places)

    @contextlib.asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """Wait for a place, and have it until the end of the context."""
        await self._free.acquire()
        held = True

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                self._free.release()

        timer = asyncio.get_running_loop().call_later(PATIENCE, leave)
        try:
            yield
        finally:
            timer.cancel()
            leave()
