"""The three engines, really started from their Launch as a node would start them, with a real model."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from nodekit.engines import Engines
from rbee_ssh.engines import NAMES, Engine, Launch, LaunchSettings, Readiness, by_name

KEY = "0123456789abcdef-the-key"
# The threads of engines that share two cores wait for each other with a spinning CPU.
ONE_THREAD = ("--threads", "1", "--threads-batch", "1")
QUESTION = {
    "messages": [{"role": "user", "content": "Name the capital of France."}],
    "max_tokens": 12,
    "temperature": 0,
    "seed": 1,
}

every_engine = pytest.mark.parametrize(
    "engine",
    [
        pytest.param(
            engine,
            id=engine.name,
            marks=[pytest.mark.llama_cpp_python] if engine.name == "llama-cpp-python" else [],
        )
        for engine in map(by_name, NAMES)
    ],
)


class Started:
    """An engine as a local process, and an HTTP client to its socket or port."""

    def __init__(
        self, engine: Engine, launch: Launch, settings: LaunchSettings, env: Mapping[str, str]
    ) -> None:
        self.engine, self.settings = engine, settings
        directory = Path(settings.directory)
        for name, text in launch.files:
            (directory / name).write_text(text)
        environment = {**os.environ, **env, **dict(launch.env)}
        if launch.key_env:
            environment[launch.key_env] = Path(settings.key_file).read_text().strip()
        self.log_file = directory / "log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                launch.argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def listens(self) -> bool:
        # Not left to httpx: it does not close a UNIX socket that could not be connected.
        if not self.settings.socket:
            return self.engine.port_pattern in self.log
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.settings.socket) == 0

    def client(self, key: str | None = KEY) -> httpx.Client:
        # llama.cpp closes a connection after a streamed answer without having said so.
        headers = {"Connection": "close", **({"Authorization": f"Bearer {key}"} if key else {})}
        if self.settings.socket:
            transport = httpx.HTTPTransport(uds=self.settings.socket)
            return httpx.Client(transport=transport, base_url="http://worker", headers=headers, timeout=60)
        port = re.search(re.escape(self.engine.port_pattern) + r"(\d+)", self.log)
        assert port, self.log
        return httpx.Client(base_url=f"http://127.0.0.1:{port[1]}", headers=headers, timeout=60)

    def wait_until_ready(self, seconds: float = 60) -> list[Readiness]:
        """What was seen on the way, READY last."""
        seen: list[Readiness] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log[-2000:]
            if self.listens():
                with self.client() as client:
                    seen.append(self.engine.readiness(client.get(self.engine.ready_path).status_code))
                if seen[-1] is Readiness.READY:
                    return seen
            time.sleep(0.05)
        pytest.fail(f"not ready after {seconds} s; seen {seen}\n{self.log[-2000:]}")

    def wait_for_log(self, text: str, seconds: float = 30) -> None:
        """llama.cpp writes its log from a thread of its own, and answers before a line is there."""
        deadline = time.monotonic() + seconds
        while text not in self.log:
            assert time.monotonic() < deadline, self.log[-2000:]
            time.sleep(0.02)

    def end(self) -> int:
        """The exit status as a shell tells it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        return 128 - status if status < 0 else status


@pytest.fixture
def directory() -> Iterator[Path]:
    # pytest's own directories are too deep for the path of a UNIX socket.
    place = Path(tempfile.mkdtemp(prefix="rbee-"))
    yield place
    shutil.rmtree(place)


@pytest.fixture
def settings(directory: Path, model_path: Path) -> LaunchSettings:
    (directory / "key").write_text(KEY + "\n")
    (directory / "key").chmod(0o600)
    return LaunchSettings(
        engine_path="",
        model_path=str(model_path),
        key_file=str(directory / "key"),
        directory=str(directory),
        socket=str(directory / "sock.sock"),
        context=512,
        alias="tiny",
        args=ONE_THREAD,
    )


@pytest.fixture
def start(engines: Engines) -> Any:
    @contextmanager
    def start(engine: Engine, settings: LaunchSettings, **env: str) -> Iterator[Started]:
        path = {
            "llama-server": lambda: engines.llama_server,
            "xllamacpp": lambda: engines.xllamacpp_python,
            "llama-cpp-python": lambda: engines.llama_cpp_python,
        }[engine.name]()
        library_path = str(path.parent) if list(path.parent.glob("lib*.so*")) else None
        settings = replace(settings, engine_path=str(path), library_path=library_path)
        started = Started(engine, engine.launch(settings), settings, env)
        try:
            yield started
        finally:
            started.end()

    return start


def stream(client: httpx.Client, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of a streamed answer; the last line has to be [DONE]."""
    lines: list[str] = []
    with client.stream("POST", path, json={**body, "stream": True}) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def words(chunks: list[dict[str, Any]]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", [])
    )


@every_engine
def test_serves_over_a_socket(engine: Engine, settings: LaunchSettings, start: Any) -> None:
    with start(engine, settings) as started:
        seen = started.wait_until_ready()
        assert set(seen) <= {Readiness.LOADING, Readiness.READY}
        started.wait_for_log(engine.ready_pattern)
        assert KEY not in started.log
        assert KEY not in Path(f"/proc/{started.process.pid}/cmdline").read_text()

        with started.client(key=None) as stranger, started.client(key="wrong") as guesser:
            assert stranger.post("/v1/chat/completions", json=QUESTION).status_code == 401
            assert guesser.post("/v1/chat/completions", json=QUESTION).status_code == 401

        with started.client() as client:
            whole = client.post("/v1/chat/completions", json=QUESTION).json()
            first = stream(client, "/v1/chat/completions", QUESTION)
            second = stream(client, "/v1/chat/completions", QUESTION)
            models = client.get("/v1/models").json()
        assert words(first) == words(second) == whole["choices"][0]["message"]["content"]
        assert "Paris" in words(first)
        assert whole["usage"]["completion_tokens"] > 0
        reasons = [c["finish_reason"] for chunk in first for c in chunk["choices"] if c["finish_reason"]]
        assert reasons in (["stop"], ["length"])
        assert [model["id"] for model in models["data"]] == ["tiny"]
        before = time.monotonic()
        assert started.end() in (0, 143)
        assert time.monotonic() - before < 5


@every_engine
def test_serves_over_a_port_it_chose_itself(engine: Engine, settings: LaunchSettings, start: Any) -> None:
    with start(engine, replace(settings, socket=None)) as started:
        started.wait_until_ready()
        with started.client() as client:
            assert client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1}).status_code == 200


@every_engine
def test_ends_by_itself_when_the_model_is_no_model(
    engine: Engine, settings: LaunchSettings, start: Any, directory: Path
) -> None:
    (directory / "bad.gguf").write_text("no model at all")
    with start(engine, replace(settings, model_path=str(directory / "bad.gguf"))) as started:
        assert started.process.wait(60) == 1
        assert "bad.gguf" in started.log
        assert engine.ready_pattern not in started.log


@pytest.mark.parametrize("name", ["llama-server", "xllamacpp"])
def test_every_slot_has_the_context_that_was_asked_for(
    name: str, settings: LaunchSettings, start: Any
) -> None:
    with start(by_name(name), replace(settings, parallel=3)) as started:
        started.wait_until_ready()
        with started.client() as client:
            slots = client.get("/slots").json()
    assert [slot["n_ctx"] for slot in slots] == [512, 512, 512]


@pytest.mark.parametrize("name", ["llama-server", "xllamacpp"])
def test_another_web_page_may_not_read_its_answers(name: str, settings: LaunchSettings, start: Any) -> None:
    with start(by_name(name), settings) as started:
        started.wait_until_ready()
        with started.client() as client:
            answer = client.get("/v1/models", headers={"Origin": "http://elsewhere.example"})
            page = client.get("/", headers={"Accept-Encoding": "gzip"})
    assert "access-control-allow-origin" not in answer.headers
    assert page.status_code == 404


def test_the_arguments_of_a_preset_reach_xllamacpp(settings: LaunchSettings, start: Any) -> None:
    args = ("--cache-type-k", "q8_0", "flash-attn=on", "--no-warmup", "--ctx-size", "768", "-t", "1")
    with start(by_name("xllamacpp"), replace(settings, args=args)) as started:
        started.wait_until_ready()
        with started.client() as client:
            assert client.get("/slots").json()[0]["n_ctx"] == 768


@pytest.mark.parametrize(
    ("args", "name"),
    [(("--no-such-thing", "hunter2"), "no_such_thing"), (("--threads", "hunter2"), "threads")],
)
def test_xllamacpp_names_an_argument_it_cannot_take(
    args: tuple[str, ...], name: str, settings: LaunchSettings, start: Any
) -> None:
    with start(by_name("xllamacpp"), replace(settings, args=args)) as started:
        assert started.process.wait(60) == 64
        assert name in started.log
        assert "hunter2" not in started.log
        assert "Traceback" not in started.log


def test_xllamacpp_does_not_fall_back_to_the_cpu(settings: LaunchSettings, start: Any) -> None:
    with start(by_name("xllamacpp"), replace(settings, backend="rocm")) as started:
        assert started.process.wait(60) == 69
        assert "no rocm device" in started.log


@every_engine
def test_runs_on_the_cpu_when_told_to(engine: Engine, settings: LaunchSettings, start: Any) -> None:
    with start(engine, replace(settings, backend="cpu")) as started:
        started.wait_until_ready()
        with started.client() as client:
            assert words(stream(client, "/v1/chat/completions", QUESTION))


@pytest.fixture
def vulkan(engines: Engines) -> Mapping[str, str]:
    """The variables that give llama-server a Vulkan device that is really the CPU (mesa's lavapipe)."""
    path = engines.llama_server
    env = {"GGML_VK_VISIBLE_DEVICES": "0", "LD_LIBRARY_PATH": str(path.parent)}
    listed = subprocess.run(
        [str(path), "--list-devices"],
        check=False,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=30,
    )
    if "Vulkan0" not in listed.stdout:
        pytest.skip("this llama-server sees no Vulkan device: apt-get install mesa-vulkan-drivers")
    return {"GGML_VK_VISIBLE_DEVICES": "0"}


@pytest.mark.parametrize("device", [None, "0"])
def test_llama_server_takes_the_device_by_its_index(
    device: str | None, settings: LaunchSettings, start: Any, vulkan: Mapping[str, str]
) -> None:
    asked = replace(settings, backend="vulkan", device=device, args=(*ONE_THREAD, "--verbosity", "4"))
    with start(by_name("llama-server"), asked, **vulkan) as started:
        started.wait_for_log("offloaded 31/31 layers to GPU")
        # What follows are shaders, which lavapipe compiles for a minute on a busy CPU.
        started.process.kill()


def test_llama_server_ends_when_the_device_is_not_there(
    settings: LaunchSettings, start: Any, vulkan: Mapping[str, str]
) -> None:
    asked = replace(settings, backend="vulkan", device="7")
    with start(by_name("llama-server"), asked, **vulkan) as started:
        assert started.process.wait(60) == 1
        assert "invalid device: Vulkan7" in started.log


@pytest.mark.parametrize("name", ["llama-server", "xllamacpp"])
def test_prompts_that_a_slot_has_left_take_no_memory(name: str, settings: LaunchSettings, start: Any) -> None:
    """llama.cpp's own default is a cache of up to 8 GiB for them, which no estimate could count."""
    with start(by_name(name), replace(settings, backend="cpu", context=1024)) as started:
        started.wait_until_ready()
        with started.client() as client:

            def own_mib(subject: str) -> int:
                body = {"prompt": f"{subject} " * 100, "n_predict": 1, "cache_prompt": True}
                answer = client.post("/completion", json=body).json()
                assert answer["tokens_evaluated"] > 90
                status = Path(f"/proc/{started.process.pid}/status").read_text()
                return int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) // 1024

            before = [own_mib(subject) for subject in ("red", "blue")][-1]
            # 22.5 KiB a token, which is 2.2 MiB for each prompt.
            assert [own_mib(subject) for subject in ("green", "white")][-1] - before < 2
