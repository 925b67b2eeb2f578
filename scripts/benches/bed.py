"""One node with a real sshd, one control machine, and the same work done by rbee and by hand."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches import stopwatch
from benches.stopwatch import Run
from nodekit import Control, LabNode, NodeLab
from nodekit.control import rbee_path
from nodekit.engines import Engines, visible_directories
from rbee_ssh import engines as known_engines
from rbee_ssh.engines import LaunchSettings
from rbee_ssh.ssh.quote import quote, words
from rbee_ssh.workers import chat
from rbee_ssh.workers.resolve import DEFAULT_CONTEXT
from rbee_ssh.workers.types import InferRequest, Sampling, WorkerRequest

FLOOR = Path(__file__).with_name("floor.py")
STAGES = Path(__file__).with_name("stages.py")
# A preset whose engine leaves the other core to whoever reads its tokens.
ONE_THREAD = "one-thread"
# Asks for more tokens than any answer here takes, so that both sides stop at their --max-tokens.
PROMPT = "Write a very long story about a lighthouse keeper and the sea, with many chapters."
# A worker started by hand: what run.sh and start.sh are to rbee, as short as it can be written.
BY_HAND = """
cd {directory} || exit 1
rm -f sock.sock
umask 077
setsid sh ./run.sh </dev/null >log 2>&1 &
echo $! >pid
until curl -sf -o /dev/null --unix-socket sock.sock http://localhost/health; do sleep 0.05; done
exec {curl}
"""


@dataclass
class Bed:
    """What a benchmark measures on."""

    node: LabNode
    control: Control
    engine: str
    keys: dict[str, str]
    model: Path
    preset: str = ""  # a preset of the inventory; the model's file when empty

    # By rbee

    def infer_argv(self, tokens: int, *, json_lines: bool) -> list[str]:
        """`rbee infer` of our prompt; every call asks for the same worker."""
        return [
            *(rbee_path(), "-q", *(["--json"] if json_lines else [])),
            *("infer", "--node", self.node.name, "--model", self.preset or f"file://{self.model}"),
            *("--temperature", "0"),
            *("--seed", "1", "--max-tokens", str(tokens), PROMPT),
        ]

    def infer(self, tokens: int, *, json_lines: bool = True) -> Run:
        """`rbee infer`, each token marked; in text mode each piece of output."""
        counts = stopwatch.token_event if json_lines else None
        return stopwatch.run(
            self.infer_argv(tokens, json_lines=json_lines),
            counts,
            env=self.control.env,
            cwd=self.control.work,
        )

    def peak_bytes(self, tokens: int) -> float:
        argv = self.infer_argv(tokens, json_lines=True)
        return stopwatch.peak_bytes(argv, env=self.control.env, cwd=self.control.work)

    def stages(self, tokens: int) -> dict[str, float]:
        """Seconds since the start at which each stage of a warm `rbee infer` was over."""
        argv = [sys.executable, str(STAGES), *self.infer_argv(tokens, json_lines=True)[1:]]
        env = self.control.env | {"RBEE_BENCH_BEGAN": str(stopwatch.now())}
        said = stopwatch.output(argv, env=env, cwd=self.control.work)
        stages: dict[str, float] = json.loads(said.splitlines()[-1])
        return stages

    def start(self) -> dict[str, Any]:
        """Have rbee start its worker; the entry that `workers list` has for it."""
        self.infer(1)
        (worker,) = json.loads(self.control.rbee("--json", "workers", "list", check=True).stdout)["workers"]
        found: dict[str, Any] = worker
        return found

    def stop(self) -> None:
        self.control.rbee("-q", "workers", "stop", "--all", "--now", check=True)

    # By hand

    def request(self, tokens: int) -> str:
        """The body that rbee sends, for curl to send."""
        sampling = Sampling(temperature=0.0, seed=1, max_tokens=tokens)
        request = InferRequest(worker=WorkerRequest(model=""), prompt=PROMPT, sampling=sampling)
        return json.dumps(chat.payload(request, self.model.name, self.engine)[1])

    def curl(self, socket: str, key_file: str, tokens: int) -> str:
        """The words that stream the same request on the node."""
        self.node.write(f"ask-{tokens}.json", self.request(tokens))
        key = self.node.exec_local(f"cat {quote(key_file)}").stdout.strip()
        head = f"head-{Path(key_file).parent.name}"
        self.node.write(head, f"Authorization: Bearer {key}\n")
        return (
            f"curl -sN --unix-socket {quote(socket)} -H @$HOME/{head} -H 'Content-Type: application/json' "
            f"-d @$HOME/ask-{tokens}.json http://localhost/v1/chat/completions"
        )

    def over_ssh(self, command: str) -> Run:
        """`ssh node COMMAND`, each token of the stream marked."""
        return stopwatch.run([*self.node.ssh_argv(), command], stopwatch.token_data, env=self.control.env)

    def on_node(self, command: str) -> Run:
        """COMMAND on the node itself, each token of the stream marked."""
        return stopwatch.run(self.node.local_argv(command), stopwatch.token_data)

    def floor(self, socket: str, key_file: str, tokens: int, modules: Sequence[str]) -> Run:
        """A bare asyncssh script that streams the same request, with these modules imported besides."""
        key = self.node.exec_local(f"cat {quote(key_file)}").stdout.strip()
        given = {
            "host": self.node.address,
            "port": self.node.port,
            "username": self.node.user,
            "client_key": str(self.node.key),
            "known_hosts": str(self.control.known_hosts),
            "socket": socket,
            "key": key,
            "body": self.request(tokens),
        }
        return stopwatch.run(
            [sys.executable, str(FLOOR), *modules],
            stopwatch.token_data,
            env=self.control.env,
            input=json.dumps(given),
        )

    def prepare_by_hand(self) -> str:
        """Put the files of a worker without rbee on the node; the script that starts, waits and asks."""
        directory = f"{self.node.home}/byhand"
        python_or_server = self.keys.get("engine_path") or self.keys["python"]
        launch = known_engines.by_name(self.engine).launch(
            LaunchSettings(
                engine_path=python_or_server,
                model_path=str(self.model),
                key_file=f"{directory}/key",
                directory=directory,
                socket=f"{directory}/sock.sock",
                context=DEFAULT_CONTEXT,
                backend="cpu",
                alias=self.model.name,
            )
        )
        exports = "".join(f"export {name}={quote(value)}\n" for name, value in launch.env)
        self.node.write("byhand/run.sh", f"{exports}exec {words(launch.argv)}\n")
        self.node.write("byhand/key", "0123456789abcdef\n")
        for name, text in launch.files:
            self.node.write(f"byhand/{name}", text)
        curl = self.curl(f"{directory}/sock.sock", f"{directory}/key", 1)
        return BY_HAND.format(directory=directory, curl=curl)

    def stop_by_hand(self) -> None:
        self.node.exec_local(
            "read pid <byhand/pid; kill -KILL -$pid; while kill -0 $pid 2>/dev/null; do sleep 0.05; done"
        )


@contextmanager
def bed(engine: str) -> Iterator[Bed]:
    """A node with dash as the login shell, and a control machine that knows it and the preset ONE_THREAD."""
    found = Engines(dict(os.environ))
    with NodeLab(visible=visible_directories()) as lab:
        node, control = lab.node("node", shell="/bin/dash"), lab.control("desk")
        keys = found.inventory_keys(engine)
        preset = f'[models.{ONE_THREAD}]\nsource = "file://{found.model}"\nargs = ["--threads", "1"]\n'
        control.inventory(node, every=keys, text=preset)
        yield Bed(node, control, engine, keys, found.model)
