"""What was seen of a node → the checks of `nodes check`, each with what to do about it. Pure.

A check has "failed" when inference there does not work because of it; a "warning" is what will hurt later, or
elsewhere; "unknown" is what the node does not tell, or has no need of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rbee_ssh.errors import BackendUnavailable, DeviceInvalid, EngineFault, RbeeError
from rbee_ssh.inventory import Node
from rbee_ssh.node.choose import Choice, choose_engine, named_engine
from rbee_ssh.node.facts import Facts
from rbee_ssh.node.gpus import Gpu
from rbee_ssh.node.remedies import on_node, state_dir
from rbee_ssh.wording import listed

NAMES = (
    *("reachable", "host_key", "login", "shell", "latency", "forwarding", "state_dir"),
    *("engine", "gpu", "ram", "disk", "venv", "logout", "clock"),
)
# Which check an error belongs to. Every other one came up behind the login.
_STAGES = {
    "SSH_CONFIG_INVALID": "reachable",
    "INVENTORY_INVALID": "reachable",
    "NODE_UNREACHABLE": "reachable",
    "JUMP_FAILED": "reachable",
    "HOST_KEY_UNKNOWN": "host_key",
    "HOST_KEY_CHANGED": "host_key",
    "AUTH_FAILED": "login",
    "KEY_NOT_FOUND": "login",
}
SLOW = 0.5  # seconds for a round trip: every token comes that late
LITTLE_RAM = 1024**3  # the smallest models that are of use need about as much
LITTLE_DISK = 5 * 1024**3
NO_DISK = 64 * 1024**2  # what is left free when a model is sent there
SKEW = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `nodes check`."""

    name: str
    state: str  # "ok", "failed", "warning", "unknown" or "not_tried"
    detail: str = ""
    seconds: float | None = None  # what it took, where that was measured
    fix: str | None = None  # what to do, a command to paste where there is one


@dataclass(frozen=True, slots=True)
class Forwarding:
    """Which channels to a listener on the node opened, and how long the last one took; None: not tried."""

    unix: bool | None = None
    tcp: bool | None = None
    seconds: float | None = None


@dataclass(slots=True)
class NodeObservation:
    """What was seen of a node up to the end, or up to `error`. Times are in seconds."""

    node: Node
    destination: str | None = None  # what to type behind `ssh`; None for this machine
    address: str = ""
    host_key: str = ""
    reach: float | None = None
    login: float | None = None
    shell: float | None = None
    forwarding: Forwarding = Forwarding()
    problem: str | None = None  # why there is no place for the workers' records
    facts: Facts | None = None
    clock: float | None = None  # how far the node's is ahead of ours, for certain
    error: RbeeError | None = None


def checks(seen: NodeObservation) -> tuple[Check, ...]:
    """Every check once, in the order of NAMES; behind an error the rest are not tried."""
    done = {check.name: check for check in (*_login(seen), *_facts(seen))}
    if seen.error is not None:
        name = _STAGES.get(seen.error.code) or next(
            name for name in NAMES[NAMES.index("shell") :] if name not in done
        )
        done[name] = Check(name, "failed", seen.error.message, fix=seen.error.hint)
    return tuple(done.get(name) or Check(name, "not_tried") for name in NAMES)


def works(checks: tuple[Check, ...]) -> bool:
    """Whether nothing stands in the way of inference."""
    return all(check.state != "failed" for check in checks)


def clock_ahead(before: float, after: float, clock: float | None) -> float | None:
    """How many seconds the node's clock is ahead of ours, negative when behind, as far as that is certain.

    Args:
        before, after: our clock when the question was sent, and when the answer had come.
        clock: theirs at some moment in between, cut to a whole second.
    """
    if clock is None:
        return None
    if clock > after:
        return clock - after
    return min(clock + 1 - before, 0.0)


def _login(seen: NodeObservation) -> Iterator[Check]:
    """What was passed up to the shell: all before the check that the error belongs to."""
    code = seen.error.code if seen.error else ""
    if code == "KEY_NOT_FOUND":
        return  # nothing was sent
    passed = NAMES.index(_STAGES.get(code, "shell"))
    key = "this machine, in this process" if seen.node.embedded else seen.host_key or "in known_hosts"
    facts = seen.facts or Facts()
    steps = (
        Check("reachable", "ok", seen.address or seen.node.host, seen.reach),
        Check("host_key", "ok", key),
        Check("login", "ok", f"as {facts.user}" if facts.user else "", seen.login),
    )
    yield from steps[:passed]
    if seen.shell is not None:
        yield Check("shell", "ok", f"{facts.shell or 'its login shell'} starts sh", seen.shell)
        yield from _channel(seen)


def _channel(seen: NodeObservation) -> Iterator[Check]:
    tried, fix = seen.forwarding, ""
    if tried.seconds is None:
        yield Check("latency", "unknown", "not measured: nothing there could be connected to")
    elif tried.seconds <= SLOW:
        yield Check("latency", "ok", "for a round trip", tried.seconds)
    else:
        yield Check("latency", "warning", "for a round trip: every token comes late", tried.seconds)
    opened, kind, directive = tried.tcp, "TCP", "AllowTcpForwarding"
    if seen.node.listen == "unix":
        opened, kind, directive = tried.unix, "stream-local", "AllowStreamLocalForwarding"
        fix = f'listen = "tcp" for {seen.node.name} in the inventory, or ' if tried.tcp else ""
    if opened is None:
        detail = "not tried: the node has neither perl nor python3 to listen with"
        yield Check("forwarding", "unknown", detail)
    elif opened:
        yield Check("forwarding", "ok", f"{kind} channels open")
    else:
        detail = (
            f"its sshd opens no {kind} channel: {directive} is off, or the key's line in authorized_keys "
            "says restrict"
        )
        yield Check("forwarding", "failed", detail, fix=f"{fix}{directive} yes in its sshd_config")


def _facts(seen: NodeObservation) -> Iterator[Check]:
    node, facts = seen.node, seen.facts
    if facts is None:
        return
    if seen.problem:
        yield Check("state_dir", "failed", seen.problem, fix=state_dir(seen.problem))
    else:
        yield Check("state_dir", "ok", "workers' records can be kept")
    choice, engine = _engine(node, facts)
    yield engine
    yield _gpu(node, facts, choice)
    yield _ram(facts)
    yield _disk(node, facts)
    yield _venv(facts, seen.destination)
    yield _logout(facts, seen.destination)
    yield _clock(seen.clock)


def _engine(node: Node, facts: Facts) -> tuple[Choice | None, Check]:
    try:
        choice = choose_engine(facts, node, engine=node.engine, backend=node.backend, device=node.device)
    except EngineFault as error:
        # The node cannot be asked for more than it is: there, a build for its GPU would help.
        missing = not isinstance(error, BackendUnavailable) or bool(facts.gpus)
        fix = f"rbee nodes setup {node.name}" if missing and not named_engine(node) else error.hint
        # Where it was looked for fills a screen; `infer` says it.
        return None, Check("engine", "failed", error.message.partition("; looked for ")[0], fix=fix)
    except DeviceInvalid as error:
        fix = f"change device of {node.name} in the inventory"
        return None, Check("engine", "failed", error.message, fix=fix)
    chosen = choice.engine
    detail = f"{chosen.name} {chosen.version}".strip() + f" runs, on {choice.backend}"
    broken = [f"; {e.name} ({e.path}) does not: {e.problem}" for e in facts.engines if e.problem]
    others = dict.fromkeys(e.name for e in facts.engines if e.name != chosen.name and not e.problem)
    if others:
        detail += f"; so {'does' if len(others) == 1 else 'do'} {listed(others)}"
    return choice, Check("engine", "warning" if broken else "ok", "".join([detail, *broken]))


def _gpu(node: Node, facts: Facts, choice: Choice | None) -> Check:
    silent = [problem for problem in facts.problems if "-smi fails" in problem]
    if not facts.gpus:
        if silent:
            return Check("gpu", "warning", "; ".join(silent))
        if choice and choice.backend not in ("cpu", "auto"):
            return Check("gpu", "ok", f"{choice.engine.name} computes on {choice.backend}")
        return Check("gpu", "unknown", "none that a driver's tool shows: models run on the CPU")
    names = listed(map(_gpu_text, facts.gpus))
    if choice is None:
        return Check("gpu", "unknown", f"{names}; no engine to use it")
    if choice.backend != "cpu":
        return Check("gpu", "ok", f"{names}; {choice.engine.name} computes on {choice.backend}")
    if node.backend == "cpu":
        return Check("gpu", "ok", f"{names}; not used, as the inventory says")
    detail = f"{names}, but {choice.engine.name} is a build for the CPU only"
    return Check("gpu", "warning", detail, fix=f"rbee nodes setup {node.name}")


def _gpu_text(gpu: Gpu) -> str:
    about = [] if gpu.memory_total_bytes is None else [_gib(gpu.memory_total_bytes)]
    if gpu.driver:
        about.append(f"driver {gpu.driver}")
    return f"{gpu.name} ({', '.join(about)})" if about else gpu.name


def _ram(facts: Facts) -> Check:
    free, total = facts.ram_free_bytes, facts.ram_total_bytes
    if free is None or total is None:
        return Check("ram", "unknown", "the node does not tell")
    detail = f"{_gib(free)} of {_gib(total)} free"
    if free < LITTLE_RAM:
        return Check("ram", "warning", f"{detail}: only the smallest models fit")
    return Check("ram", "ok", detail)


def _disk(node: Node, facts: Facts) -> Check:
    free, place = facts.disk_free_bytes, facts.models_dir or node.models_dir
    if facts.models_closed is not None:
        fix = f"set models_dir of {node.name} to a directory of that login's"
        return Check("disk", "failed", f"{place} cannot be written: {facts.models_closed}", fix=fix)
    if free is None:
        return Check("disk", "unknown", "the node does not tell")
    detail = f"{_gib(free)} free for {place}"
    if free < NO_DISK:
        fix = f"free some, or set models_dir of {node.name} to a larger disk"
        return Check("disk", "failed", f"{detail}: no model can be sent there", fix=fix)
    if free < LITTLE_DISK:
        return Check("disk", "warning", f"{detail}: only small models fit")
    return Check("disk", "ok", detail)


def _venv(facts: Facts, destination: str | None) -> Check:
    if facts.python is None:
        return Check("venv", "unknown", "no Python: `rbee nodes setup` needs one, except for llama-server")
    python = f"{facts.python.path} {facts.python.version}"
    if facts.python.venv:
        return Check("venv", "ok", f"{python} makes environments")
    detail = f"{python} makes no environments, which `rbee nodes setup` needs"
    return Check("venv", "warning", detail, fix=on_node(destination, "sudo apt-get install python3-venv"))


def _logout(facts: Facts, destination: str | None) -> Check:
    problem = next((problem for problem in facts.problems if "last logout" in problem), None)
    if problem:
        command = f"loginctl enable-linger {facts.user or ''}".strip()
        fix = None if facts.linger else on_node(destination, command)
        return Check("logout", "warning", problem, fix=fix)
    if facts.kill_user_processes is None:
        return Check("logout", "unknown", "it does not tell whether processes end at logout")
    return Check("logout", "ok", "workers live on when the connection ends")


def _clock(ahead: float | None) -> Check:
    if ahead is None:
        return Check("clock", "unknown", "the node does not tell")
    if abs(ahead) <= SKEW:
        return Check("clock", "ok", "as here" if abs(ahead) < 1 else f"{abs(ahead):.0f} s off")
    side = "ahead" if ahead > 0 else "behind"
    detail = (
        f"{abs(ahead):.0f} s {side}: times of files and workers mislead, and downloads over https may fail"
    )
    return Check("clock", "warning", detail, fix="set it there: timedatectl set-ntp true")


def _gib(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB"
