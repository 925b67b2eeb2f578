"""What a node is: the lines of facts.sh → Facts."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

from rbee_ssh.engines import EngineFound
from rbee_ssh.inventory import Node
from rbee_ssh.node import engine_facts, free_memory
from rbee_ssh.node.engine_facts import PythonFound
from rbee_ssh.node.gpus import Gpu, parse_nvidia, parse_rocm
from rbee_ssh.node.untrusted_text import clean, integer, plain

SCRIPTS = (Path(__file__).with_name("engines.sh"), Path(__file__).with_name("facts.sh"))
"""The sources of the probe, in this order; the last line runs it with the arguments of `arguments`."""

ENDED_EARLY = "the probe ended early, so that not all is known"
MODEL_STATES = frozenset({"gguf", "differs", "unproven", "missing", "unreadable", "invalid"})
MAX_TEXT = 512 * 1024
MAX_RECORDS = 2000


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The model file that was asked about."""

    path: str
    # "gguf", "missing", "unreadable", "invalid" (not GGUF), "differs" (GGUF, and not what its note in the
    # store says, or not what it has to be) or "unproven" (GGUF, where others may write).
    state: str
    size: int | None = None  # bytes; None, as is mtime, where it could not be looked at
    mtime: int | None = None  # seconds, by the node's clock
    total: int | None = None  # bytes of all parts that are there, where it is the first of a split model …
    parts: int | None = None  # … and how many
    head: bytes = b""  # its first bytes, if they were asked for


@dataclass(frozen=True, slots=True)
class Facts:
    """What a node is at one moment; None is "not known". Memory is what our control groups let us use."""

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
    load: float | None = None  # what the node calls the load of the last minute
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
    clock: float | None = None  # the node's Unix time, whole seconds
    model: ModelFile | None = None
    looked: tuple[str, ...] = ()  # where engines were looked for
    problems: tuple[str, ...] = ()  # for the user


class ProbeOptions(TypedDict, total=False):
    """What a probe is asked for, beside what the inventory says of the node."""

    model_path: str  # a file to look for, absolute or with a leading ~/; empty for none
    # "all", "auto" (up to the first that runs) or a name; "none" for a second probe, of what changes: memory,
    # disk, load, GPUs.
    engine: str
    backend: str  # of the worker; a GPU's makes every engine list its devices
    device: str | None
    brief: bool  # without account, clock and Pythons that have no engine; a few milliseconds instead of 40
    # SIZE:MTIME of the model file whose header is known, "" when it never was; None asks for no header.
    known_header: str | None
    # The SHA-256 that the model file and its other parts have to have, "" where nobody has told it, if they
    # are of the node's store.
    stored: Sequence[str] | None


def arguments(node: Node, pythons: Iterable[str] = (), **options: Unpack[ProbeOptions]) -> list[str]:
    """The arguments of the probe. `pythons`: interpreters to look into beside the usual ones."""
    engine = options.get("engine", "auto")
    if options.get("backend", "auto") not in ("auto", "cpu") or options.get("device") is not None:
        engine = "all" if engine == "auto" else f"{engine},devices"
    if options.get("brief"):
        engine += ",brief"
    header, stored = options.get("known_header"), options.get("stored")
    return [
        *(node.models_dir, node.engine_path or "", node.python or "", options.get("model_path", ""), engine),
        *pythons,
        *(f"env:{name}={value}" for name, value in node.env),
        *([] if header is None else [f"header:{header}"]),
        *([] if stored is None else [f"stored:{','.join(stored)}"]),
    ]


def parse_facts(text: str) -> Facts:
    """Lines `key<TAB>value…` → Facts. Unknown keys, broken lines and nonsense values are passed over."""
    records = [
        [plain(field) for field in line.split("\t")]
        for line in text[:MAX_TEXT].split("\n")[:MAX_RECORDS]
        if "\t" in line
    ]
    lookup = _Lookup(records)
    engines, python, problems = engine_facts.parse(records)
    os = lookup.text("os")
    if os == "Darwin":
        sysctl = lookup.lines("sysctl")
        ram_total, ram_free = free_memory.macos(sysctl, lookup.lines("vm_stat"))
        cpu = clean(_after(sysctl, "machdep.cpu.brand_string:") or "") or None
        cpus = integer(_after(sysctl, "hw.ncpu:"))
        load = _after(sysctl, "vm.loadavg:")
    else:
        ram_total, ram_free = free_memory.linux(lookup.lines("meminfo"), lookup.all("cgroup"))
        cpu, load = lookup.words("cpu_model") or lookup.words("board"), lookup.text("load")
        cpus = _listed(lookup.text("cpus_allowed") or "") or lookup.number("cpus")
    gpus = (*parse_nvidia(lookup.lines("nvidia")), *parse_rocm("\n".join(lookup.lines("rocm"))))
    if os == "Darwin" and lookup.text("arch") == "arm64":  # it computes in the machine's own memory
        gpus += (Gpu(0, cpu or "Apple GPU", "apple", "metal", ram_total, ram_free),)
    clock = lookup.number("clock")
    linger = {"yes": True, "no": False}.get(lookup.text("linger") or "")
    kills = _kills(lookup)
    return Facts(
        os=lookup.words("os"),
        arch=lookup.words("arch"),
        kernel=lookup.words("kernel"),
        hostname=lookup.words("hostname"),
        shell=lookup.words("shell"),
        user=lookup.words("user"),
        uid=lookup.number("uid"),
        home=lookup.text("home"),
        cpu_model=cpu,
        cpus=cpus,
        load=_load(load or ""),
        ram_total_bytes=ram_total,
        ram_free_bytes=ram_free,
        models_dir=lookup.text("models_dir"),
        disk_free_bytes=_disk(lookup.lines("df")),
        models_closed=lookup.text("models_closed"),
        gpus=gpus,
        engines=engines,
        python=python,
        linger=linger,
        kill_user_processes=kills,
        clock=None if clock is None else float(clock),
        model=_model(lookup),
        looked=tuple(
            f"{fields[0]} in {', '.join(filter(None, fields[1:]))}" for fields in lookup.all("looked")
        ),
        problems=(*map(clean, lookup.lines("problem")), *problems, *_problems(lookup, linger, kills)),
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


def _model(lookup: _Lookup) -> ModelFile | None:
    for fields in lookup.all("model"):
        if len(fields) >= 4 and fields[0] in MODEL_STATES:
            head = "".join(lookup.lines("header"))
            return ModelFile(
                *(fields[3], fields[0], integer(fields[1]), integer(fields[2])),
                total=lookup.number("model_bytes"),
                parts=lookup.number("model_parts"),
                head=bytes.fromhex(head) if re.fullmatch("(?:[0-9a-f]{2})*", head) else b"",
            )
    return None


def _kills(lookup: _Lookup) -> bool | None:
    """Whether systemd ends a user's processes at the last logout. Without systemd nobody does."""
    if lookup.text("systemd") == "none":
        return False
    if answer := lookup.text("kill_user_processes"):
        return {"b true": True, "b false": False}.get(answer)

    # Drop-ins override the main file in the order of their names, /etc's before those of the vendor. A line
    # that is commented out tells what this build does by default.
    def rank(fields: Sequence[str]) -> tuple[int, bool, str, bool]:
        path, setting = fields
        drop_in = posixpath.basename(posixpath.dirname(path)) == "logind.conf.d"
        return (not setting.startswith("#"), drop_in, posixpath.basename(path), path.startswith("/etc/"))

    lines = sorted((fields for fields in lookup.all("logind") if len(fields) == 2), key=rank)
    return lines[-1][1].partition("=")[2].strip() in ("yes", "true", "1", "on") if lines else None


def _problems(lookup: _Lookup, linger: bool | None, kills: bool | None) -> Iterable[str]:
    for tool in ("nvidia", "rocm"):
        status = lookup.number(f"{tool}_failed")
        if status is not None:
            from rbee_ssh.engines.exit_status import in_words

            why = "it did not answer in time" if status == 124 else in_words(status)
            yield f"{tool}-smi fails, so no GPU is seen: {lookup.words(f'{tool}_error') or why}"
    user = lookup.text("user") or "$USER"
    if kills and not linger:
        yield (
            "systemd ends all processes of a user there at the last logout (KillUserProcesses=yes): workers "
            f"end with the connection unless `loginctl enable-linger {user}` was run on it"
        )
    elif kills and re.match(r"systemd 255\b", lookup.text("systemd_version") or ""):
        yield "systemd 255 with KillUserProcesses=yes ends workers at the last logout, lingering or not"
    if lookup.text("facts") != "end":
        yield ENDED_EARLY
