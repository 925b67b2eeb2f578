"""The probe under every shell that may be a node's sh, against real and broken programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nodekit.engines import Engines
from nodekit.running import wait_until
from rbee_ssh.inventory import Node
from rbee_ssh.node.facts import SCRIPTS, Facts, arguments, parse_facts
from rbee_ssh.node.probe import LIMIT
from rbee_ssh.node.scripts import compose
from rbee_ssh.ssh.quote import wrap

SHELLS = {
    "dash": ["dash"],
    "bash": ["bash", "--posix"],
    "busybox": ["busybox", "sh"],
    "zsh": ["zsh", "--emulate", "sh"],
    # Nothing but busybox and a Python in PATH, as on a small Linux.
    "applets": ["busybox", "sh"],
}
SYSTEM = "/usr/local/bin:/usr/bin:/bin"
(ENOUGH,) = (int(number) for number in re.findall(r"^ *enough=([0-9]+)$", compose(*SCRIPTS), re.MULTILINE))

Probe = Callable[..., Facts]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(SHELLS[name][0]) is None:
        pytest.skip(f"{SHELLS[name][0]} is not installed")
    return name


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "a home; $(touch pwned) 'é"
    (home / "tmp").mkdir(parents=True)
    return home


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Callable[..., str]:
    """The probe's output, as it comes back from a node."""

    def run(
        shell: str,
        node: Node,
        *,
        before: str = "",
        path: str = SYSTEM,
        tmp: Path | None = None,
        enough: int = ENOUGH,
        **asked: object,
    ) -> str:
        if shell == "applets":
            applets = tmp_path / "applets"
            if not applets.exists():
                applets.mkdir()
                subprocess.run(["busybox", "--install", "-s", str(applets)], check=True)
                (applets / "python3").symlink_to("/usr/bin/python3")
            path = path.replace(SYSTEM, str(applets))
        body = before + compose(*SCRIPTS).replace(f"enough={ENOUGH}\n", f"enough={enough}\n")
        script = wrap(body, arguments(node, **asked), "marker")  # type: ignore[arg-type]
        command = [str(shutil.which(SHELLS[shell][0])), *SHELLS[shell][1:]]
        done = subprocess.run(
            command,
            input=script.encode(),
            capture_output=True,
            timeout=60,
            check=False,
            cwd=home,
            env={"HOME": str(home), "PATH": path, "SHELL": "/bin/login", "TMPDIR": str(tmp or home / "tmp")},
        )
        assert done.returncode == 0, done.stderr
        output = done.stdout.decode()
        assert not list((home / "tmp").iterdir()), "the scratch directory was left behind"
        assert not list(home.glob("pwned*"))
        return output

    return run


@pytest.fixture
def probe(run: Callable[..., str]) -> Probe:
    return lambda *args, **asked: parse_facts(run(*args, **asked))


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


SERVER = """#!/bin/sh
case $1 in
--version) echo "version: 42 (abc)${WORD:+ $WORD}"; echo "built with care" >&2 ;;
--list-devices) printf 'Available devices:\\n  CUDA0: A GPU (100 MiB, 50 MiB free)\\n' ;;
esac
"""
NODE = Node("n", "host", models_dir="~/no/such dir")


def settled(facts: Facts) -> Facts:
    """Without what changes from one second to the next."""
    return replace(facts, load=None, ram_free_bytes=None, disk_free_bytes=None, clock=None, looked=())


def test_shells_agree(shell: str, probe: Probe, home: Path) -> None:
    program(home / ".local/share/rbee/engines/x/bin/llama-server", SERVER)
    model = home / "a model\t; $(touch pwned).gguf"
    model.write_bytes(b"GGUF" + bytes(60))
    asked = {"engine": "all", "model_path": str(model), "pythons": [sys.executable, "/no/it's"]}
    mine, reference = probe(shell, NODE, **asked), probe("dash", NODE, **asked)
    assert settled(mine).problems == ()
    if shell == "applets":  # its python3 is another path
        mine, reference = replace(mine, python=None), replace(reference, python=None)
    assert settled(mine) == settled(reference)
    assert (mine.os, mine.user, mine.shell, mine.home) == ("Linux", _user(), "/bin/login", str(home))
    assert mine.models_dir == f"{home}/no/such dir"
    assert mine.cpus == len(os.sched_getaffinity(0))
    assert mine.ram_total_bytes is not None
    assert mine.ram_free_bytes is not None
    assert 0 < mine.ram_free_bytes <= mine.ram_total_bytes
    assert mine.disk_free_bytes is not None
    assert abs(mine.disk_free_bytes - shutil.disk_usage(home).free) < 2**30
    assert mine.clock is not None
    assert abs(mine.clock - time.time()) < 30
    server = mine.engines[0]
    assert (server.name, server.version, server.devices) == ("llama-server", "42 (abc)", ("CUDA0",))


def _user() -> str:
    return subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()


def test_a_connection_that_goes_away_leaves_nothing_behind(shell: str, home: Path) -> None:
    waits = 'echo >"$HOME/started"; until [ -e "$HOME/go" ]; do sleep 0.1; done'
    program(home / ".local/bin/llama-server", SERVER.replace("#!/bin/sh", f"#!/bin/sh\n{waits}"))
    process = subprocess.Popen(
        [str(shutil.which(SHELLS[shell][0])), *SHELLS[shell][1:]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"HOME": str(home), "PATH": SYSTEM, "TMPDIR": str(home / "tmp")},
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(wrap(compose(*SCRIPTS), arguments(NODE), "marker").encode())
    process.stdin.close()
    wait_until("the engine is being tried", (home / "started").exists)
    assert list((home / "tmp").iterdir()) != []
    process.stdout.close()
    (home / "go").touch()
    process.wait(30)
    assert list((home / "tmp").iterdir()) == []


def test_strict_mode_before_it_does_no_harm(shell: str, probe: Probe) -> None:
    assert probe(shell, NODE, before="set -eu\n").problems == ()


def test_nothing_leaks_into_what_stands_behind(shell: str, run: Callable[..., str], home: Path) -> None:
    program(home / ".local/bin/llama-server", SERVER)
    before = "LC_ALL=kept; libraries=kept; code=kept\ntrap 'echo trapped' USR1\n"
    after = '\nprintf \'%s %s %s %s\\n\' "$LC_ALL" "$libraries" "$code" "$#"\nkill -USR1 $$\n'
    body = wrap(before + compose(*SCRIPTS) + after, arguments(NODE), "marker")
    done = subprocess.run(
        SHELLS[shell],
        input=body,
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(home), "PATH": SYSTEM, "TMPDIR": str(home / "tmp")},
    )
    assert done.stdout.splitlines()[-2:] == ["kept kept kept 5", "trapped"]


@pytest.mark.parametrize(
    ("state", "content"),
    [
        ("gguf", b"GGUF\0\0\0\0"),
        ("invalid", b"GGU\0F"),
        ("invalid", b""),
        ("invalid", None),
        ("missing", b"-"),
    ],
)
def test_the_model_file(shell: str, probe: Probe, home: Path, state: str, content: bytes | None) -> None:
    file = home / "models" / "m.gguf"
    file.parent.mkdir()
    if content is None:
        file.mkdir()
    elif state != "missing":
        file.write_bytes(content)
        os.utime(file, (1234567890, 1234567890))
        (home / "link.gguf").symlink_to(file)
    model = probe(shell, NODE, model_path="~/models/m.gguf").model
    assert model is not None
    assert (model.path, model.state) == (str(file), state)
    if content is not None and state != "missing":
        assert (model.size, model.mtime) == (len(content), 1234567890)
        link = probe(shell, NODE, model_path="~/link.gguf").model
        assert link is not None
        assert (link.state, link.size, link.mtime) == (state, model.size, model.mtime)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_file_behind_a_closed_door_is_not_called_missing(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "m.gguf").write_bytes(b"GGUF")
    for part in (tmp_path, *tmp_path.parents):
        if part.stat().st_mode & 0o001 == 0:
            part.chmod(part.stat().st_mode | 0o111)
    script = wrap(compose(*SCRIPTS), arguments(NODE, model_path=f"{closed}/m.gguf"), "marker")
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "dash"],
        input=script,
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": "/nonexistent", "PATH": SYSTEM},
    )
    model = parse_facts(done.stdout).model
    assert model is not None
    assert model.state == "unreadable"


ELF_ARM = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(100)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"#!/bin/sh\nkill -ILL $$\n", "132"),
        (b"#!/bin/sh\nkill -KILL $$\n", "137"),
        (b"#!/bin/sh\necho 'error: no such thing' >&2\nexit 3\n", "exit status 3: error: no such thing"),
        (b"#!/no/such/interpreter\n", "127"),
        (b"touch pwned\n", "not a program"),
        (b"", "not a program"),
        (ELF_ARM, "another architecture"),
        (None, "127"),
    ],
)
def test_engines_that_do_not_run(
    shell: str, probe: Probe, home: Path, content: bytes | None, words: str
) -> None:
    path = home / "broken"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o755)
    (engine,) = probe(shell, replace(NODE, engine_path="~/broken"), pythons=[sys.executable]).engines
    assert (engine.name, engine.path) == ("llama-server", str(path))
    assert words in str(engine.problem)


@pytest.mark.parametrize(
    ("content", "words"), [(b"touch pwned\n", "not a program"), (ELF_ARM, "another architecture")]
)
def test_a_python_that_is_none_is_not_read_as_a_script(
    shell: str, probe: Probe, home: Path, content: bytes, words: str
) -> None:
    (home / "python").write_bytes(content)
    (home / "python").chmod(0o755)
    facts = probe(shell, replace(NODE, python="~/python"))
    assert facts.engines == ()
    assert [words in problem for problem in facts.problems if "does not run" in problem] == [True]
    assert not list(home.rglob("pwned"))


def test_a_broken_engine_lets_auto_go_on(shell: str, probe: Probe, home: Path) -> None:
    program(home / ".local/bin/llama-server", "#!/bin/sh\nexit 1\n")
    program(home / "llama.cpp/build/bin/llama-server", SERVER)
    program(home / "llama.cpp/build/bin/libx.so.1", "")
    broken, running = probe(shell, NODE).engines
    assert (broken.problem, running.problem) == ("exit status 1", None)
    assert running.library_path == str(home / "llama.cpp/build/bin")


def test_auto_stops_at_the_first_that_runs(shell: str, probe: Probe, home: Path) -> None:
    program(home / ".local/bin/llama-server", SERVER)
    program(home / "llama.cpp/build/bin/llama-server", SERVER)
    facts = probe(shell, NODE, pythons=[sys.executable])
    assert len(facts.engines) == 1
    assert facts.python is None


def test_an_engine_runs_with_the_variables_of_its_node(shell: str, probe: Probe, home: Path) -> None:
    program(home / ".local/bin/llama-server", SERVER)
    node = replace(NODE, env=(("WORD", 'it\'s "$HOME"'), ("BAD-NAME", "x")))
    assert probe(shell, node).engines[0].version == '42 (abc) it\'s "$HOME"'


def test_gpus_are_listed_by_their_tools(shell: str, probe: Probe, home: Path) -> None:
    tools = home / "tools"
    program(tools / "nvidia-smi", "#!/bin/sh\necho '0, A GPU, 100, 40, 570.1'\n")
    program(tools / "rocm-smi", '#!/bin/sh\necho \'{"card0": {"Card Series": "Radeon"}}\'\n')
    facts = probe(shell, NODE, path=f"{tools}:{SYSTEM}")
    assert [(gpu.name, gpu.memory_free_bytes) for gpu in facts.gpus] == [
        ("A GPU", 40 * 2**20),
        ("Radeon", None),
    ]


def test_a_tool_that_fails_is_a_problem(shell: str, probe: Probe, home: Path) -> None:
    program(home / "tools" / "nvidia-smi", "#!/bin/sh\necho 'No driver here'\nexit 9\n")
    facts = probe(shell, NODE, path=f"{home / 'tools'}:{SYSTEM}")
    assert facts.gpus == ()
    assert facts.problems == ("nvidia-smi fails, so no GPU is seen: No driver here",)


def test_without_a_temporary_directory_it_says_so(shell: str, run: Callable[..., str], home: Path) -> None:
    output = run(shell, NODE, tmp=Path("/proc/nothing"), before="HOME=/proc/nothing\n")
    facts = parse_facts(output)
    assert facts.problems[0] == "no temporary directory can be made"
    assert facts.os == "Linux"


@pytest.mark.slow
def test_what_hangs_is_given_up_with_all_its_children(shell: str, probe: Probe, home: Path) -> None:
    seconds = f"1234.{list(SHELLS).index(shell)}{os.getpid()}"
    program(
        home / "tools" / "nvidia-smi",
        f"#!/bin/sh\ntrap '' TERM HUP INT\nsleep {seconds} &\nwait\nsleep {seconds}\n",
    )
    begin = time.monotonic()
    facts = probe(shell, NODE, path=f"{home / 'tools'}:{SYSTEM}")
    assert 4.5 < time.monotonic() - begin < 20
    assert facts.problems == ("nvidia-smi fails, so no GPU is seen: it did not answer in time",)
    assert seconds not in _commands()


@pytest.mark.slow
def test_what_hangs_is_given_up_however_busy_the_machine_is(shell: str, probe: Probe, home: Path) -> None:
    """The shell itself does not run at the moment when the time is over."""
    program(
        home / "tools" / "nvidia-smi",
        "#!/bin/sh\nkill -STOP $PPID\nsleep 6\nkill -CONT $PPID\nexec sleep 1234\n",
    )
    facts = probe(shell, NODE, path=f"{home / 'tools'}:{SYSTEM}")
    assert facts.problems == ("nvidia-smi fails, so no GPU is seen: it did not answer in time",)


def test_what_hangs_takes_no_more_time_together_than_there_is(shell: str, probe: Probe, home: Path) -> None:
    assert ENOUGH + 5 <= LIMIT, "whoever asks waits longer than that"
    hangs = f"#!/bin/sh\n: >{str(home.parent)!r}/started-${{0##*/}}\nexec sleep 1234\n"
    for name in ("nvidia-smi", "rocm-smi", "llama-server", "python"):
        program(home / "tools" / name, hangs)
    path = f"{home / 'tools'}:{SYSTEM}"
    node = replace(NODE, engine_path="~/tools/llama-server", python="~/tools/python")
    facts = probe(shell, node, path=path, engine="all", enough=1)
    # Sessions come first, and may have used it up.
    assert {file.name for file in home.parent.glob("started-*")} <= {"started-nvidia-smi"}
    (engine,) = facts.engines
    assert engine.problem == "it did not answer in time: no time was left for it"
    python, nvidia, rocm = (text for text in facts.problems if not text.startswith("systemd"))
    assert nvidia.startswith("nvidia-smi fails, so no GPU is seen: ")
    assert rocm == "rocm-smi fails, so no GPU is seen: no time was left for it"
    assert python.startswith(f"{home}/tools/python does not run: it did not answer in time")


def _commands() -> str:
    texts = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            texts.append(entry.read_text(errors="replace"))
        except OSError:
            continue
    return "\n".join(texts)


def test_a_real_llama_server(shell: str, probe: Probe, engines: Engines) -> None:
    node = replace(NODE, engine_path=str(engines.llama_server))
    (engine,) = probe(shell, node, engine="llama-server", device="0").engines
    assert engine.problem is None
    assert "(" in engine.version
    assert "cpu" in engine.backends


def test_a_real_xllamacpp(shell: str, probe: Probe, engines: Engines) -> None:
    node = replace(NODE, python=str(engines.xllamacpp_python))
    facts = probe(shell, node, engine="xllamacpp", device="0")
    assert [(engine.name, engine.problem) for engine in facts.engines][:1] == [("xllamacpp", None)]
    assert "cpu" in facts.engines[0].backends
    assert facts.python is not None
    assert facts.python.path == str(engines.xllamacpp_python)


@pytest.mark.llama_cpp_python
def test_a_real_llama_cpp_python(shell: str, probe: Probe, engines: Engines) -> None:
    node = replace(NODE, python=str(engines.llama_cpp_python))
    facts = probe(shell, node, engine="llama-cpp-python")
    (engine,) = [engine for engine in facts.engines if engine.name == "llama-cpp-python"]
    assert engine.problem is None
    assert "cpu" in engine.backends


@pytest.mark.parametrize(
    ("name", "text", "started"),
    [
        (None, "", False),
        ("code.pth", "import this", False),
        ("elsewhere.pth", "# more\n/opt/more", True),
        ("xllamacpp-1.dist-info", "", True),
        ("Llama_cpp_python-0.3.dist-info", "", True),
    ],
    ids=["bare", "code", "paths", "xllamacpp", "llama-cpp-python"],
)
def test_a_brief_look_starts_no_python_without_an_engine(
    shell: str, run: Callable[..., str], home: Path, name: str | None, text: str, started: bool
) -> None:
    prefix = home / "py"
    program(prefix / "bin/python3.12", f'#!/bin/sh\n: >"{home.parent}/started"\n')
    (prefix / "bin/python3").symlink_to("python3.12")
    packages = prefix / "lib/python3.12/site-packages"
    packages.mkdir(parents=True)
    (prefix / "lib/python3.12/os.py").touch()
    if name is not None:
        (packages / name).write_text(text)
    output = run(shell, NODE, path=f"{prefix}/bin:{SYSTEM}", engine="all", brief=True)
    assert parse_facts(output).disk_free_bytes
    assert (home.parent / "started").exists() is started
    again = parse_facts(run(shell, NODE, engine="none", brief=True))
    assert (again.engines, again.looked, again.problems) == ((), (), ())
    assert again.ram_free_bytes


def test_the_header_of_a_model_is_sent_unless_it_is_known(shell: str, probe: Probe, home: Path) -> None:
    content = b"GGUF" + bytes(range(256)) * 200
    for number in (1, 2):
        (home / f"split-0000{number}-of-00002.gguf").write_bytes(content)
    path = str(home / "split-00001-of-00002.gguf")
    sent = probe(shell, NODE, model_path=path, known_header="").model
    assert sent is not None
    assert sent.head == content[:32768]
    assert sent.total == 2 * len(content)
    known = probe(shell, NODE, model_path=path, known_header=f"{sent.size}:{sent.mtime}").model
    assert known is not None
    assert known.head == b""
    stale = probe(shell, NODE, model_path=path, known_header="7:8").model
    assert stale is not None
    assert stale.head == content[:32768]


def test_a_model_is_told_from_another_one_by_the_notes_of_its_parts(
    shell: str, probe: Probe, home: Path
) -> None:
    one, two = "1" * 64, "2" * 64
    files = [home / f"split-0000{number}-of-00002.gguf" for number in (1, 2)]
    for file, sha256 in zip(files, (one, two), strict=True):
        file.write_bytes(b"GGUF")
        Path(f"{file}.json").write_text(f'{{"source":"{"3" * 64}","sha256":"{sha256}","size":4}}\n')

    def state(*sums: str) -> str | None:
        found = probe(shell, NODE, model_path=str(files[0]), sums=sums).model
        return found.state if found else None

    assert [state(), state(one), state("", two), state(one, two)] == ["gguf"] * 4
    assert [state(two), state("3" * 64), state(one, one), state("", one)] == ["differs"] * 4
    Path(f"{files[1]}.json").write_text('{"verified":0}\n')
    assert state() == "differs"
    for file in files:  # nobody has told what it is
        Path(f"{file}.json").write_text('{"size":4}\n')
    assert state(one, two) == "gguf"
