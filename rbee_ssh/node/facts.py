"""What a node is: the lines of facts.sh → Facts."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rbee_ssh.engines import EngineFound
from rbee_ssh.inventory import Node
from rbee_ssh.node import engine_facts, free_memory
from rbee_ssh.node.engine_facts import PythonFound
from rbee_ssh.node.gpus import Gpu, apple, parse_nvidia, parse_rocm
from rbee_ssh.node.untrusted_text import clean, integer, plain

SCRIPTS = (Path(__file__).with_name("engines.sh"), Path(__file__).with_name("facts.sh"))
"""The sources of the probe, in this order; the last line runs it with the arguments of `arguments`."""

ENDED_EARLY = "the probe ended early, so that not all is known"
MAX_TEXT = 512 * 1024
MAX_RECORDS = 2000


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The model file that was asked about. `state`: "gguf", "differs" (GGUF, and not what its
    note in the store says, or not what it has to be), "missing", "unreadable" or "invalid" (not GGUF).

    `size` in bytes and `mtime` in seconds by the node's clock; None when it could not be looked at. `total`:
    bytes of all parts that are there, and `parts`: how many, where it is the first of a split model. `head`:
    its first bytes, if they were asked for.
    """

    path: str
    state: str
    size: int | None = None
    mtime: int | None = None
    total: int | None = None
    parts: int | None = None
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class Facts:
    """One look at a node; None is "not known". Memory is what we may use, control groups considered.

    `clock` is the node's Unix time, whole seconds; `load` what it calls the load of the last minute. `looked`
    says where engines were looked for, `problems` what should be told to the user.
    """

    os: str | None = None
    arch: str | None = None
    kernel: str | None = None
    hostname: str | None = None
    shell: str | None = None
    user: str | None = None
    uid: int | None = None
    home: str | None = None
    cpu_model: str | None = None
    cpus: int | None = None
    load: float | None = None
    ram_total_bytes: int | None = None
    ram_free_bytes: int | None = None
    models_dir: str | None = None
    disk_free_bytes: int | None = None
    models_closed: str | None = None  # where this login may not write and the store would have to be made
    gpus: tuple[Gpu, ...] = ()
    engines: tuple[EngineFound, ...] = ()
    python: PythonFound | None = None
    linger: bool | None = None
    kill_user_processes: bool | None = None
    clock: float | None = None
    model: ModelFile | None = None
    looked: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def arguments(
    node: Node,
    *,
    model_path: str = "",
    engine: str = "auto",
    backend: str = "auto",
    device: str | None = None,
    pythons: Iterable[str] = (),
    brief: bool = False,
    known_header: str | None = None,
    sums: Sequence[str] = (),
) -> list[str]:
    """The arguments of the probe.

    Args:
        model_path: a file to look for, absolute or with a leading ~/; empty for none.
        engine: "all", or what the worker is to run on: "auto" (as far as the first that runs) or a name;
            "none" for a second look, at what changes: memory, disk, load, GPUs.
        backend: what the worker asks for; a GPU's makes every engine tell its devices.
        pythons: interpreters to look into beside the usual ones.
        brief: without account, clock and the Pythons that have no engine; a few milliseconds instead of 40.
        known_header: SIZE:MTIME of the model file whose header is known, "" when it never was; None asks for
            no header.
        sums: the SHA-256 that the model file and its other parts have to have by their notes, if they are of
            the store; "" where it is not known.
    """
    if backend not in ("auto", "cpu") or device is not None:
        engine = "all" if engine == "auto" else f"{engine},devices"
    if brief:
        engine += ",brief"
    env = [f"env:{name}={value}" for name, value in node.env]
    header = [] if known_header is None else [f"header:{known_header}"]
    if any(sums):
        header.append(f"sums:{','.join(sums)}")
    return [
        *(node.models_dir, node.engine_path or "", node.python or "", model_path, engine),
        *(*pythons, *env, *header),
    ]


def parse_facts(text: str) -> Facts:
    """Lines `key<TAB>value…` → Facts. Unknown keys, broken lines and nonsense values are passed over."""
    records = [
        [plain(field) for field in line.split("\t")]
        for line in text[:MAX_TEXT].split("\n")[:MAX_RECORDS]
        if "\t" in line
    ]
    one = _Lookup(records)
    engines, python, problems = engine_facts.parse(records)
    os = one.text("os")
    if os == "Darwin":
        sysctl = one.lines("sysctl")
        ram_total, ram_free = free_memory.macos(sysctl, one.lines("vm_stat"))
        cpu = clean(_after(sysctl, "machdep.cpu.brand_string:") or "") or None
        cpus = integer(_after(sysctl, "hw.ncpu:"))
        load = _after(sysctl, "vm.loadavg:")
    else:
        ram_total, ram_free = free_memory.linux(one.lines("meminfo"), one.all("cgroup"))
        cpu, load = one.words("cpu_model") or one.words("board"), one.text("load")
        cpus = _listed(one.text("cpus_allowed") or "") or one.number("cpus")
    gpus = (*parse_nvidia(one.lines("nvidia")), *parse_rocm("\n".join(one.lines("rocm"))))
    if os == "Darwin" and one.text("arch") == "arm64":
        gpus += (apple(cpu or "Apple GPU", ram_total, ram_free),)
    clock = one.number("clock")
    linger, kills = one.yes("linger"), _kills(one)
    return Facts(
        os=one.words("os"),
        arch=one.words("arch"),
        kernel=one.words("kernel"),
        hostname=one.words("hostname"),
        shell=one.words("shell"),
        user=one.words("user"),
        uid=one.number("uid"),
        home=one.text("home"),
        cpu_model=cpu,
        cpus=cpus,
        load=_load(load or ""),
        ram_total_bytes=ram_total,
        ram_free_bytes=ram_free,
        models_dir=one.text("models_dir"),
        disk_free_bytes=_disk(one.lines("df")),
        models_closed=one.text("models_closed"),
        gpus=gpus,
        engines=engines,
        python=python,
        linger=linger,
        kill_user_processes=kills,
        clock=None if clock is None else float(clock),
        model=_model(one),
        looked=tuple(f"{fields[0]} in {', '.join(filter(None, fields[1:]))}" for fields in one.all("looked")),
        problems=(
            *map(clean, one.lines("problem")),
            *problems,
            *_tools(one),
            *_sessions(one, linger, kills),
            *_end(one),
        ),
    )


class _Lookup:
    """Records by key. A key that should come once is believed the first time."""

    def __init__(self, records: Iterable[Sequence[str]]) -> None:
        self._by_key: dict[str, list[Sequence[str]]] = {}
        for key, *fields in records:
            self._by_key.setdefault(key, []).append(fields)

    def all(self, key: str) -> list[Sequence[str]]:
        return self._by_key.get(key, [])

    def lines(self, key: str) -> list[str]:
        return [fields[0] for fields in self.all(key)]

    def text(self, key: str) -> str | None:
        return next((value for value in self.lines(key) if value), None)

    def words(self, key: str) -> str | None:
        return clean(self.text(key) or "") or None

    def number(self, key: str) -> int | None:
        return integer(self.text(key))

    def yes(self, key: str) -> bool | None:
        return {"yes": True, "no": False}.get(self.text(key) or "")


def _after(lines: Iterable[str], name: str) -> str | None:
    return next((line.removeprefix(name).strip() for line in lines if line.startswith(name)), None)


def _listed(ranges: str) -> int | None:
    """How many CPUs "0-3,8" names, which is how Linux lists those that a process may use."""
    if not re.fullmatch(r"[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?)*", ranges):
        return None
    bounds = (part.partition("-") for part in ranges.split(","))
    return sum(max(int(last or first) - int(first) + 1, 0) for first, _, last in bounds) or None


def _load(text: str) -> float | None:
    """The first of the load averages: "0.52", on macOS "{ 1.52 1.63 1.74 }"."""
    first = re.match(r"\{? ?([0-9]{1,6}[.,][0-9]{1,2})(?: |$)", text)
    return float(first[1].replace(",", ".")) if first else None


def _disk(lines: Iterable[str]) -> int | None:
    """`df -Pk`: size, used and available in KiB, then a percentage. The name before them may hold spaces."""
    for line in lines:
        if columns := re.search(r"\s(-?[0-9]+)\s+(-?[0-9]+)\s+(-?[0-9]{1,18})\s+(?:[0-9]+%|-)\s", line + " "):
            return max(int(columns[3]), 0) * 1024
    return None


def _model(one: _Lookup) -> ModelFile | None:
    for fields in one.all("model"):
        if len(fields) >= 4 and fields[0] in ("gguf", "differs", "missing", "unreadable", "invalid"):
            head = "".join(one.lines("header"))
            return ModelFile(
                *(fields[3], fields[0], integer(fields[1]), integer(fields[2])),
                total=one.number("model_bytes"),
                parts=one.number("model_parts"),
                head=bytes.fromhex(head) if re.fullmatch("(?:[0-9a-f]{2})*", head) else b"",
            )
    return None


def _kills(one: _Lookup) -> bool | None:
    """Whether systemd ends a user's processes at the last logout. Without systemd nobody does."""
    if one.text("systemd") == "none":
        return False
    if answer := one.text("kill_user_processes"):
        return {"b true": True, "b false": False}.get(answer)

    # Drop-ins override the main file in the order of their names, /etc's before those of the vendor. A line
    # that is commented out tells what this build does by default.
    def rank(fields: Sequence[str]) -> tuple[int, bool, str, bool]:
        path, setting = fields
        drop_in = posixpath.basename(posixpath.dirname(path)) == "logind.conf.d"
        return (not setting.startswith("#"), drop_in, posixpath.basename(path), path.startswith("/etc/"))

    lines = sorted((fields for fields in one.all("logind") if len(fields) == 2), key=rank)
    if not lines:
        return None
    return {"yes": True, "true": True, "1": True, "on": True}.get(
        lines[-1][1].partition("=")[2].strip(), False
    )


def _tools(one: _Lookup) -> Iterable[str]:
    for tool, name in (("nvidia", "nvidia-smi"), ("rocm", "rocm-smi")):
        status = one.number(f"{tool}_failed")
        if status is not None:
            said = one.text(f"{tool}_error")
            from rbee_ssh.engines.exit_status import in_words

            why = "it did not answer in time" if status == 124 else in_words(status)
            yield f"{name} fails, so no GPU is seen: {clean(said or '') or why}"


def _sessions(one: _Lookup, linger: bool | None, kills: bool | None) -> Iterable[str]:
    user = one.text("user") or "$USER"
    if kills and not linger:
        yield (
            "systemd ends all processes of a user there at the last logout (KillUserProcesses=yes): workers "
            f"end with the connection unless `loginctl enable-linger {user}` was run on it"
        )
    elif kills and re.match(r"systemd 255\b", one.text("systemd_version") or ""):
        yield "systemd 255 with KillUserProcesses=yes ends workers at the last logout, lingering or not"


def _end(one: _Lookup) -> Iterable[str]:
    if one.text("facts") != "end":
        yield ENDED_EARLY
