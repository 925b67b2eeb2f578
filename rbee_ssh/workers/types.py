"""The values that this package takes and gives. All frozen, all plain."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rbee_ssh.registry import WorkerEntry
    from rbee_ssh.ssh.connection import Connection, Proof

STATES = ("starting", "loading", "idle", "busy", "stopping", "stopped", "failed", "dead", "unknown")
LIVE_STATES = frozenset({"starting", "loading", "idle", "busy", "stopping"})


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """What a command asks for: a model, and where and how to serve it. None means "not said".

    `model` is a reference or a preset's name as the user gave it.
    """

    model: str
    node: str | None = None
    context: int | None = None  # tokens for each slot
    parallel: int | None = None
    engine: str | None = None
    backend: str | None = None
    device: str | None = None
    evict: bool = True  # whether idle workers of ours may be stopped to make room


@dataclass(frozen=True, slots=True)
class Sampling:
    """What goes into the request as it stands; None leaves the engine's default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One prompt. `raw` sends it to plain completion, without the model's chat template."""

    worker: WorkerRequest
    prompt: str
    system: str | None = None
    raw: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    timeout: float | None = None  # seconds for the whole answer, from the request on
    wait: bool = True  # for a slot, where every one is taken
    remove: bool = False  # --rm: stop the worker afterwards, if this command started it


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker as `workers list` shows it. Times in seconds; `started_at` is a Unix time."""

    id: str
    node: str
    model: str
    engine: str
    state: str  # one of STATES
    endpoint: str  # "unix:/…/sock" or "tcp:127.0.0.1:PORT", on the node
    pid: int | None
    started_at: float | None
    idle_seconds: int | None
    lease_seconds: int
    log: str  # path on the node
    owner: str = ""  # id of the control machine that started it
    match: str = ""  # equal for workers that would answer alike
    exit_status: int | None = None
    problem: str | None = None  # the last log lines of a failed one
    context: int | None = None  # tokens for each slot
    parallel: int = 1  # slots
    memory: int | None = None  # bytes of RAM that it has now, the mapped model among them
    device_memory: int | None = None  # bytes that it was expected to take of its GPUs


@dataclass(frozen=True, slots=True)
class ServingWorker:
    """A worker that is ready, as far as is known, and the connection to its node."""

    connection: Connection
    entry: WorkerEntry
    reused: bool

    @property
    def proof(self) -> Proof | None:
        """What the connection is to ask before it lets anybody write to the worker; None where nobody else
        can have put anything into its place."""
        if self.entry.private:
            return None
        from rbee_ssh.workers.ownership import own

        return partial(own, self.connection, self.entry)


@dataclass(frozen=True, slots=True)
class Started:
    """The first event of an inference: who serves it."""

    node: str
    worker: str
    model: str
    engine: str
    reused: bool


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer as it came. `index` counts from 0."""

    text: str
    index: int


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of a reasoning model's thinking."""

    text: str
    index: int


@dataclass(frozen=True, slots=True)
class Done:
    """The last event. `seconds` from the request to the end; `tokens` as the engine counted them."""

    finish_reason: str
    tokens: int
    prompt_tokens: int | None
    seconds: float
    tokens_per_second: float
    time_to_first_token_ms: float


Event = Started | Token | Thinking | Done
