"""A node that lies: a real SSH server in this process, known by its key, whose shell is a Python function."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh
from unit.models.gguf_files import write
from unit.ssh.servers import NoLogin, Process

from nodekit import Control

NAME = "liar"
WORKER = "0123456789ab"
KEY = "0123456789abcdef" * 3
MODEL = "file:///m.gguf"
_MACHINES = Path(__file__).parents[1] / "unit" / "node" / "fixtures"
HEADER = write(
    {"general.architecture": "llama"}
    | {f"llama.{key}": 64 for key in ("block_count", "embedding_length", "attention.head_count")}
    | {"llama.context_length": 2048, "tokenizer.ggml.tokens": ["a", "b"]}
)
FACTS = (_MACHINES / "ubuntu-nvidia.txt").read_text().partition("\n")[2].removesuffix("facts\tend\n")
FACTS += f"model\tgguf\t98362432\t1760000000\t/m.gguf\nmodel_bytes\t98362432\nheader\t{HEADER.hex()}\n"
FACTS += "facts\tend\n"
LOOK = f"""root\t/home/ada/.local/state/rbee/abc
boot-id\t11-22
worker\t{WORKER}
state\tidle
directory\t/home/ada/.local/state/rbee/abc/workers/{WORKER}
match\tdeadbeef
spec.json\t{{"node": "liar", "model": "file:///m.gguf", "engine": "llama-server", "created": 12.5}}
pid\t77 1234
boot\t11-22
idle\t3
lease\t3600
cpu\t12
key\t{KEY}
socket\t/home/ada/x/worker.sock
private\t1
memory\t1000
log-size\t100
end\t{WORKER}
"""
STORE = """store\t/home/ada/.local/share/rbee/models
file\t98362432\t1760000000\tlocal/0123456789ab/tiny.gguf
note\t{"source": "tiny.gguf", "size": 98362432, "last_used": 1760000000}
part\t5\t1760000000\t.incoming/0123.part
store end\t
"""
# What an honest node says, by what stands in the script that asks: the first that fits.
ANSWERS = (
    ('rbee_list "$@"', STORE),
    ("rbee_command", "said\n"),
    ("section\\tfacts", f"{LOOK}section\tfacts\n{FACTS}"),
    ("rbee_show_all", f"{LOOK}stopped\t{WORKER}\n"),
    ("rbee_listen", "socket\t/tmp/rbee.sock\nport\t4711\n"),
    ("tail -n", "main: model loaded\n"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One session: the script that came, and the line that is to come back before its output."""

    process: Process
    script: str
    mark: bytes

    @property
    def truth(self) -> bytes:
        """What an honest node would print."""
        return next((text for sign, text in ANSWERS if sign in self.script), "").encode()

    def say(self, output: bytes, *, error: bool = False) -> None:
        (self.process.stderr if error else self.process.stdout).write(output)

    async def say_on(self, piece: bytes, times: int | None = None, *, error: bool = False) -> None:
        """A piece again and again, as fast as it is taken."""
        stream = self.process.stderr if error else self.process.stdout
        while times is None or (times := times - 1) >= 0:
            stream.write(piece)
            await stream.drain()


Behaviour = Callable[[Asked], Awaitable[None]]
Socket = Callable[["asyncssh.SSHReader[bytes]", "asyncssh.SSHWriter[bytes]"], Coroutine[Any, Any, None]]


async def honest(asked: Asked) -> None:
    asked.say(asked.mark + asked.truth)
    asked.process.exit(0)


def lying(lie: Callable[[bytes], bytes], status: int = 0) -> Behaviour:
    """Behaves well, and says what `lie` makes of the truth."""

    async def behaviour(asked: Asked) -> None:
        asked.say(asked.mark + lie(asked.truth))
        asked.process.exit(status)

    return behaviour


def answering(*datas: str, raw: bytes | None = None) -> Socket:
    """An engine that answers every prompt with these events, or these bytes."""

    async def serve(reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = "".join(f"data: {data}\n\n" for data in (*datas, "[DONE]"))
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        writer.write((head + body).encode() if raw is None else raw)
        writer.close()

    return serve


class Liar:
    """The node; a context manager.

    Attributes:
        behaviour: of its shell, in each session from now on.
        socket: of whatever listens on its UNIX sockets; None refuses every channel to one.
        opens: asked whether a session may be opened; None is no answer at all.

    Args:
        options: of asyncssh.listen, over those that let everybody in.
    """

    def __init__(self, behaviour: Behaviour = honest, **options: Any) -> None:
        self.behaviour = behaviour
        self.socket: Socket | None = None
        self.opens: Callable[[], bool | None] = lambda: True
        self.asked = 0
        self._options = options
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._there(self._listen())
        self.port: int = self._server.get_port()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._there(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def known_to(self, control: Control, *, text: str = "", **keys: Any) -> None:
        """The only node of this control machine's inventory, its key in known_hosts."""
        public = " ".join(self._key.export_public_key().decode().split()[:2])
        control.known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}\n")
        where = {"host": "127.0.0.1", "port": self.port, "user": "me"}
        control.inventory(nodes_also={NAME: where | keys}, text=text, trust=False)

    def _there(self, work: Coroutine[Any, Any, Any]) -> Any:
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(timeout=20)

    async def _listen(self) -> asyncssh.SSHAcceptor:
        liar = self

        class Server(NoLogin):
            async def session_requested(self) -> Any:
                if (allowed := liar.opens()) is None:
                    await asyncio.sleep(3600)
                if not allowed:
                    raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "\x1b[2Jno")
                return asyncssh.SSHServerProcess(liar._shell, None, 3, False)

            def unix_connection_requested(self, dest_path: str) -> Any:
                return liar.socket or False

        return await asyncssh.listen(
            "127.0.0.1",
            0,
            **{"server_factory": Server, "server_host_keys": [self._key], "encoding": None} | self._options,
        )

    async def _shell(self, process: Process) -> None:
        self.asked += 1
        script = b""
        try:
            # The last line of every script; a payload comes behind it, when the mark is there.
            while b"; exit $?\n" not in script:
                if not (more := await process.stdin.read(65536)):
                    return
                script += more
            mark = b"\nrbee-" + script.partition(b"'\\n%s\\n' rbee-")[2].partition(b"\n")[0] + b"\n"
            await self.behaviour(Asked(process, script.decode("utf-8", "replace"), mark))
        except (asyncssh.Error, OSError):
            pass  # the client has had enough

    async def _end(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
