"""Facts out of recorded machines. A new kind of machine is a new file in fixtures/, not new code."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.inventory import Node
from rbee_ssh.node.engine_facts import PythonFound
from rbee_ssh.node.facts import ENDED_EARLY, Facts, ModelFile, arguments, parse_facts
from rbee_ssh.node.gpus import Gpu

FIXTURES = Path(__file__).with_name("fixtures")
GIB = 1024**3
MIB = 1024**2


def facts(machine: str) -> Facts:
    return parse_facts((FIXTURES / f"{machine}.txt").read_text())


MACHINES: dict[str, dict[str, Any]] = {
    "debian-dash": {
        "os": "Linux",
        "arch": "x86_64",
        "hostname": "debian12",
        "user": "ada",
        "uid": 1002,
        "home": "/home/ada",
        "shell": "/bin/dash",
        "cpu_model": "Intel(R) Xeon(R) Processor",
        "cpus": 2,
        "ram_total_bytes": 24684084 * 1024,
        "ram_free_bytes": 23269112 * 1024,
        "models_dir": "/home/ada/models",
        "disk_free_bytes": 11927740 * 1024,
        "gpus": (),
        "linger": None,
        "kill_user_processes": False,
        "clock": 1795401443.0,
        "model": ModelFile("/home/ada/models/SmolLM2-135M-Instruct.Q4_1.gguf", "gguf", 98362432, 1795401439),
        "python": PythonFound("/home/ada/.local/share/rbee/venv/bin/python", "3.11.2", True),
        "problems": (),
    },
    "debian-auto": {
        "model": ModelFile("/home/ada/models/bad.gguf", "invalid", 8, 1795401439),
        "python": None,
        "problems": (),
    },
    "debian-memory-limit": {
        "ram_total_bytes": GIB,
        "ram_free_bytes": GIB - 2445312 + 4096,
    },
    "macos-apple-silicon": {
        "os": "Darwin",
        "arch": "arm64",
        "cpu_model": "Apple M4 Max",
        "cpus": 16,
        "ram_total_bytes": 64 * GIB,
        "ram_free_bytes": (123456 + 345678 + 12345) * 16384,
        "disk_free_bytes": 450000000 * 1024,
        "gpus": (Gpu(0, "Apple M4 Max", "apple", "metal", 64 * GIB, (123456 + 345678 + 12345) * 16384),),
        "model": ModelFile("/Users/ada/models/tiny.gguf", "missing"),
        "problems": (),
    },
    "ubuntu-nvidia": {
        "linger": True,
        "kill_user_processes": False,
        "disk_free_bytes": 510957180 * 1024,
        "gpus": (
            Gpu(0, "NVIDIA GeForce RTX 3090", "nvidia", "cuda", 24576 * MIB, 23888 * MIB, "570.133.07"),
            Gpu(1, "NVIDIA GeForce RTX 3090", "nvidia", "cuda", 24576 * MIB, 512 * MIB, "570.133.07"),
        ),
        "problems": (),
    },
    "dgx-spark": {
        "cpu_model": "NVIDIA DGX Spark",
        "ram_total_bytes": 127600748 * 1024,
        "gpus": (Gpu(0, "NVIDIA GB10", "nvidia", "cuda", None, None, "580.126.09"),),
    },
    "ubuntu-rocm": {
        "gpus": (
            Gpu(
                0,
                "Radeon RX 7900 XT",
                "amd",
                "rocm",
                21458059264,
                21458059264 - 27856896,
                "6.14.0-27-generic",
            ),
            Gpu(1, "Raphael", "amd", "rocm", 67108864, 67108864 - 26079232, "6.14.0-27-generic"),
        ),
    },
}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine(machine: str) -> None:
    read = facts(machine)
    assert {key: getattr(read, key) for key in MACHINES[machine]} == MACHINES[machine]


def test_busybox_tells_the_same_as_dash_with_gnu_tools() -> None:
    # The free memory and the place of python3 are those of another second and another PATH.
    moving = {"ram_free_bytes", "looked"}
    dash, busybox = asdict(facts("debian-dash")), asdict(facts("debian-busybox"))
    assert {k: v for k, v in dash.items() if k not in moving} == {
        k: v for k, v in busybox.items() if k not in moving
    }


@pytest.mark.parametrize(
    ("machine", "engines"),
    [
        (
            "debian-dash",
            [("llama-server", "1 (571d0d5)", ("cpu",), ()), ("xllamacpp", "2026.10.11549", ("cpu",), ())],
        ),
        ("debian-auto", [("llama-server", "1 (571d0d5)", (), ())]),
        (
            "macos-apple-silicon",
            [("llama-server", "6869 (b1234567)", ("cpu", "metal"), ("Metal", "BLAS"))],
        ),
        ("ubuntu-nvidia", [("llama-server", "6869 (b1234567)", ("cpu", "cuda"), ("CUDA0", "CUDA1"))]),
        ("ubuntu-rocm", [("llama-server", "6869 (b1234567)", ("cpu", "rocm"), ("ROCm0",))]),
        (
            "ubuntu-nvidia-cpu-engine",
            [
                ("xllamacpp", "2026.10.11549", ("cpu",), ()),
                ("llama-cpp-python", "0.3.36", ("cpu", "cuda"), ()),
            ],
        ),
    ],
)
def test_the_engines_of_a_machine(machine: str, engines: list[tuple[object, ...]]) -> None:
    found = facts(machine).engines
    assert [(one.name, one.version, one.backends, one.devices) for one in found] == engines


def test_libraries_beside_a_binary() -> None:
    assert facts("ubuntu-nvidia").engines[0].library_path == "/home/ada/llama.cpp/build/bin"
    assert facts("ubuntu-rocm").engines[0].library_path is None


def test_a_server_that_lacks_its_packages_is_told_from_one_that_runs() -> None:
    xllamacpp, llama_cpp_python = facts("ubuntu-nvidia-cpu-engine").engines
    assert xllamacpp.problem is None
    assert "uvicorn, sse_starlette" in str(llama_cpp_python.problem)


def test_processes_that_end_at_the_last_logout_are_a_problem() -> None:
    read = facts("ubuntu-nvidia-cpu-engine")
    assert read.kill_user_processes is True
    assert "loginctl enable-linger ada" in read.problems[0]


def test_systemd_255_kills_lingering_or_not() -> None:
    text = "systemd\tyes\nlinger\tyes\nkill_user_processes\tb true\nfacts\tend\n"
    text += "systemd_version\tsystemd 255 (255.4-1ubuntu8.6)"
    assert "lingering or not" in parse_facts(text).problems[0]
    assert parse_facts(text.replace("systemd 255", "systemd 257")).problems == ()


def test_a_driver_that_fails_is_a_problem_and_not_an_absence() -> None:
    (problem,) = facts("ubuntu-nvidia-no-driver").problems
    assert "couldn't communicate with the NVIDIA driver" in problem


@pytest.mark.parametrize(
    ("lines", "kills"),
    [
        ([("/etc/systemd/logind.conf", "#KillUserProcesses=no")], False),
        ([("/etc/systemd/logind.conf", "#KillUserProcesses=yes")], True),
        ([("/etc/systemd/logind.conf", "KillUserProcesses=yes")], True),
        (
            [
                ("/etc/systemd/logind.conf.d/50-no.conf", "KillUserProcesses=no"),
                ("/etc/systemd/logind.conf", "KillUserProcesses=yes"),
            ],
            False,
        ),
        (
            [
                ("/etc/systemd/logind.conf.d/90-last.conf", "KillUserProcesses=yes"),
                ("/usr/lib/systemd/logind.conf.d/95-vendor.conf", "#KillUserProcesses=no"),
                ("/usr/lib/systemd/logind.conf.d/10-vendor.conf", "KillUserProcesses=no"),
            ],
            True,
        ),
        ([], None),
    ],
)
def test_logind_as_its_files_say(lines: list[tuple[str, str]], kills: bool | None) -> None:
    text = "systemd\tyes\n" + "".join(f"logind\t{path}\t{line}\n" for path, line in lines)
    assert parse_facts(text).kill_user_processes is kills


ENGINE = "engine\tllama-server\t/opt/llama-server\t\t{status}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ENGINE.format(status=132), ("132", "CPU features")),
        (
            ENGINE.format(status=127)
            + "engine_out\t/opt/llama-server: error while loading shared libraries: libllama.so: cannot open",
            ("127", "error while loading shared libraries: libllama.so"),
        ),
        (
            ENGINE.format(status=126) + "engine_out\tbuilt for another architecture than x86_64",
            ("126", "built for another architecture"),
        ),
        (ENGINE.format(status=124) + "engine_out\tstarting", ("did not answer in time", "starting")),
        (ENGINE.format(status="?"), ("did not come back",)),
    ],
)
def test_why_an_engine_does_not_run(text: str, words: tuple[str, ...]) -> None:
    (engine,) = parse_facts(text).engines
    assert all(word in str(engine.problem) for word in words)


def test_a_wheel_that_cannot_be_imported() -> None:
    lines = "version=3.11.2", "xllamacpp=2026.1", "xllamacpp_imports=started"
    text = "python\t/venv/bin/python\t132" + "".join(f"\npython_out\t{line}" for line in lines)
    (engine,) = parse_facts(text).engines
    assert "cannot be imported" in str(engine.problem)
    assert "132" in str(engine.problem)


def test_a_python_that_was_named_and_does_not_run_is_a_problem() -> None:
    assert "/no/python does not run" in parse_facts("python\t/no/python\t127\nfacts\tend").problems[0]


def test_what_came_before_and_after_does_no_harm() -> None:
    noise = (
        "Welcome to Ubuntu!\nos\nMARK\n\t\nworker\tx\nos\tLinux\nos\tPlan9\ncpus\tmany\nuid\t-1\nclock\t1e9\n"
    )
    read = parse_facts(noise)
    assert (read.os, read.cpus, read.uid, read.clock) == ("Linux", None, None, None)
    assert "ended early" in read.problems[-1]


def test_nothing_at_all_is_facts_too() -> None:
    assert parse_facts("") == Facts(problems=(ENDED_EARLY,))


def test_text_for_people_cannot_steer_a_terminal() -> None:
    read = parse_facts(
        "cpu_model\t\x1b[31mEvil\x1b[0m \x07CPU\x9b2J\u202e\n"
        "nvidia\t0, \x1b[1mGPU\x1b[0m, 1, 1, 5\n"
        + ENGINE.format(status=1)
        + "engine_out\t[31merror:\x07 no[0m"
    )
    assert read.cpu_model == "Evil CPU2J"
    assert read.gpus[0].name == "GPU"
    assert str(read.engines[0].problem).endswith("error: no")


def test_a_path_stays_as_it_is() -> None:
    path = "/models/[2m] a\u200db  ünï [0m.gguf "
    assert parse_facts(f"model\tgguf\t5\t6\t{path}").model == ModelFile(path, "gguf", 5, 6)


def test_a_flood_is_cut() -> None:
    read = parse_facts("os\tLinux\n" + "nvidia\t0, GPU, 1, 1, 5\n" * 100_000 + "x" * 10_000_000)
    assert read.os == "Linux"
    assert len(read.gpus) <= 2000


NAMES = (
    "os cpus cpus_allowed load clock uid meminfo cgroup sysctl vm_stat df nvidia rocm engine engine_out "
    "engine_device engine_devices python python_out model looked logind systemd linger problem facts arch "
    "kill_user_processes nvidia_failed nvidia_error"
)
KEYS = st.sampled_from(NAMES.split())
FIELDS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["0", "-1", "9" * 40, "MemTotal: 5 kB", "card0", "device,x\ncard1,2", "[N/A]", "²³"]),
    st.sampled_from(["llama-server", "xllamacpp=1", "xllamacpp_imports=started", "Darwin", "arm64"]),
    st.just('{"card0": {"a": [1]}}'),
)


@given(st.lists(st.tuples(KEYS, st.lists(FIELDS, max_size=5)), max_size=30))
def test_any_records_give_facts(records: list[tuple[str, list[str]]]) -> None:
    read = parse_facts("\n".join("\t".join([key, *fields]) for key, fields in records))
    for number in (read.ram_total_bytes, read.ram_free_bytes, read.disk_free_bytes, read.cpus):
        assert number is None or number >= 0


@given(st.text())
def test_any_text_gives_facts(text: str) -> None:
    parse_facts(text)


def test_the_head_of_a_model_file_and_the_size_of_all_its_parts() -> None:
    text = "model\tgguf\t5\t6\t/m\nmodel_bytes\t70\nmodel_parts\t2\nheader\t4747\nheader\t5546"
    assert parse_facts(text).model == ModelFile("/m", "gguf", 5, 6, 70, 2, b"GGUF")
    for nonsense in ("4", "zz", "47 47", "\u0664\u0667"):
        found = parse_facts(f"model\tgguf\t5\t6\t/m\nheader\t{nonsense}").model
        assert found is not None
        assert found.head == b""


NODE = Node("n", "host", engine_path="/e", models_dir="~/m", env=(("A", "b c"),))


@pytest.mark.parametrize(
    ("ranges", "cpus"),
    [
        ("0-3", 4),
        ("7", 1),
        ("0-3,8,10-11", 7),
        ("3-1", None),
        ("0-", None),
        ("0-9999999999", None),
        ("many", None),
        ("", None),
    ],
)
def test_the_cpus_a_process_may_use(ranges: str, cpus: int | None) -> None:
    assert parse_facts(f"os\tLinux\ncpus_allowed\t{ranges}").cpus == cpus
    assert parse_facts(f"os\tLinux\ncpus_allowed\t{ranges}\ncpus\t64").cpus == (cpus or 64)


@pytest.mark.parametrize(
    ("text", "load"),
    [
        ("os\tLinux\nload\t0.52", 0.52),
        ("os\tDarwin\nsysctl\tvm.loadavg: { 1.52 1.63 1.74 }", 1.52),
        ("os\tDarwin\nsysctl\tvm.loadavg: { 1,52 1,63 1,74 }", 1.52),
        ("os\tLinux\nload\tinf", None),
        ("os\tLinux\nload\t1e99", None),
        ("os\tLinux", None),
    ],
)
def test_load(text: str, load: float | None) -> None:
    assert parse_facts(text).load == load


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({}, "auto"),
        ({"engine": "all"}, "all"),
        ({"backend": "cpu"}, "auto"),
        ({"backend": "cuda"}, "all"),
        ({"engine": "xllamacpp", "backend": "vulkan"}, "xllamacpp,devices"),
        ({"engine": "xllamacpp", "device": "0"}, "xllamacpp,devices"),
        ({"engine": "all", "brief": True}, "all,brief"),
        ({"engine": "none", "brief": True}, "none,brief"),
    ],
)
def test_how_much_is_asked(asked: dict[str, Any], word: str) -> None:
    assert arguments(NODE, pythons=["/py"], **asked) == ["~/m", "/e", "", "", word, "/py", "env:A=b c"]


@pytest.mark.parametrize(("known", "argument"), [(None, []), ("", ["header:"]), ("5:6", ["header:5:6"])])
def test_the_header_that_is_known_already(known: str | None, argument: list[str]) -> None:
    assert [word for word in arguments(NODE, known_header=known) if word.startswith("header")] == argument
