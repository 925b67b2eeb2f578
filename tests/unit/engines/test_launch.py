"""The command lines of the engines: what is in them, and what must not be."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.engines import NAMES, Engine, LaunchSettings, Readiness, by_name
from rbee_ssh.errors import UsageInvalid
from rbee_ssh.inventory import ENGINES as ENGINE_NAMES

SETTINGS = LaunchSettings(
    engine_path="/opt/engine",
    model_path="/models/a model; rm -rf $HOME.gguf",
    key_file="/state/w1/key",
    directory="/state/w1",
    socket="/state/w1/sock",
    context=2048,
    parallel=4,
)

every_engine = pytest.mark.parametrize(
    "engine", [by_name(name) for name in NAMES], ids=lambda engine: engine.name
)


def value_after(argv: tuple[str, ...], option: str) -> str:
    return argv[argv.index(option) + 1]


def settings_json(settings: LaunchSettings) -> dict[str, object]:
    found: dict[str, object] = json.loads(dict(by_name("xllamacpp").launch(settings).files)["settings.json"])
    return found


def test_the_names_are_those_of_the_inventory_in_the_order_of_auto() -> None:
    assert tuple(by_name(name).name for name in NAMES) == NAMES == ENGINE_NAMES[1:]


def test_an_unknown_engine_names_the_known_ones() -> None:
    with pytest.raises(UsageInvalid) as caught:
        by_name("ollama")
    assert "llama-server, xllamacpp, llama-cpp-python" in str(caught.value.hint)


@every_engine
def test_runs_the_program_that_was_found(engine: Engine) -> None:
    assert engine.launch(SETTINGS).argv[0] == "/opt/engine"


@every_engine
def test_the_socket_and_the_model_go_through_unchanged(engine: Engine) -> None:
    launch = engine.launch(SETTINGS)
    texts = (
        *launch.argv,
        *(value for _, value in launch.env),
        *(str(value) for value in settings_json(SETTINGS).values()),
    )
    assert SETTINGS.socket in texts
    assert SETTINGS.model_path in texts


@every_engine
def test_without_a_socket_it_listens_on_the_loopback_only(engine: Engine) -> None:
    launch = engine.launch(replace(SETTINGS, socket=None))
    if engine.name == "xllamacpp":
        assert settings_json(replace(SETTINGS, socket=None))["host"] == "127.0.0.1"
    else:
        assert value_after(launch.argv, "--host") == "127.0.0.1"
        assert value_after(launch.argv, "--port") == "0"


@pytest.mark.parametrize(
    ("status", "reading"),
    [
        (200, Readiness.READY),
        (503, Readiness.LOADING),
        (401, Readiness.READY),
        (404, Readiness.WRONG),
        (500, Readiness.WRONG),
    ],
)
@every_engine
def test_readiness(engine: Engine, status: int, reading: Readiness) -> None:
    assert engine.readiness(status) is reading


def test_llama_server_divides_its_context_by_its_slots() -> None:
    argv = by_name("llama-server").launch(SETTINGS).argv
    assert value_after(argv, "--ctx-size") == "8192"
    assert value_after(argv, "--parallel") == "4"
    assert "--ctx-size" not in by_name("llama-server").launch(replace(SETTINGS, context=None)).argv
    assert settings_json(SETTINGS)["context"] == 8192
    assert dict(by_name("llama-cpp-python").launch(SETTINGS).env)["N_CTX"] == "2048"


def test_the_arguments_of_a_preset_come_last_so_that_they_count() -> None:
    args = ("--ctx-size", "99", "--flash-attn", "on")
    assert by_name("llama-server").launch(replace(SETTINGS, args=args)).argv[-4:] == args


@pytest.mark.parametrize(
    ("backend", "device", "placement"),
    [
        ("cpu", None, ("--n-gpu-layers", "0", "--device", "none")),
        ("cuda", None, ("--n-gpu-layers", "999")),
        ("cuda", "0,1", ("--n-gpu-layers", "999", "--device", "CUDA0,CUDA1")),
        ("rocm", "1", ("--n-gpu-layers", "999", "--device", "ROCm1")),
        ("vulkan", "0", ("--n-gpu-layers", "999", "--device", "Vulkan0")),
        ("metal", "0", ("--n-gpu-layers", "999")),
        ("auto", None, ("--n-gpu-layers", "999")),
    ],
)
def test_where_llama_server_puts_the_model(
    backend: str, device: str | None, placement: tuple[str, ...]
) -> None:
    argv = by_name("llama-server").launch(replace(SETTINGS, backend=backend, device=device)).argv
    assert argv[-len(placement) :] == placement
    assert argv.count("--n-gpu-layers") == 1


@pytest.mark.parametrize("args", [("--rpc", "10.0.0.2:50052"), ("--device=CUDA1",), ("-dev", "none")])
def test_a_preset_that_places_the_model_itself_is_left_alone(args: tuple[str, ...]) -> None:
    argv = by_name("llama-server").launch(replace(SETTINGS, backend="cpu", args=args)).argv
    assert argv[-len(args) :] == args
    assert "--n-gpu-layers" not in argv


def test_an_alias_is_one_name() -> None:
    engine = by_name("llama-server")
    assert value_after(engine.launch(replace(SETTINGS, alias="a,b")).argv, "--alias") == "a_b"
    assert value_after(engine.launch(SETTINGS).argv, "--alias") == "a model; rm -rf $HOME.gguf"


def test_libraries_beside_the_binary_are_found() -> None:
    engine = by_name("llama-server")
    assert dict(engine.launch(replace(SETTINGS, library_path="/opt")).env)["LD_LIBRARY_PATH"] == "/opt"
    assert "LD_LIBRARY_PATH" not in dict(engine.launch(SETTINGS).env)


@pytest.mark.parametrize(
    ("backend", "device", "expected"),
    [
        ("cuda", "1", {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ("cuda", None, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ("rocm", "0,1", {"HIP_VISIBLE_DEVICES": "0,1"}),
        ("vulkan", "0", {"GGML_VK_VISIBLE_DEVICES": "0"}),
        (
            "cpu",
            None,
            {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1", "GGML_VK_VISIBLE_DEVICES": ""},
        ),
        ("auto", None, {}),
    ],
)
@pytest.mark.parametrize("name", ["xllamacpp", "llama-cpp-python"])
def test_python_engines_see_only_the_devices_they_may_use(
    name: str, backend: str, device: str | None, expected: dict[str, str]
) -> None:
    env = dict(by_name(name).launch(replace(SETTINGS, backend=backend, device=device)).env)
    assert {key: value for key, value in env.items() if "DEVICE" in key} == expected


def test_xllamacpp_reads_everything_from_a_file() -> None:
    launch = by_name("xllamacpp").launch(replace(SETTINGS, args=("--threads", "2", "--mlock")))
    assert launch.argv == ("/opt/engine", "-u", "/state/w1/serve.py", "/state/w1/settings.json")
    assert launch.key_env is None
    settings = settings_json(replace(SETTINGS, args=("--threads", "2", "--mlock")))
    assert settings["args"] == [["threads", "2"], ["mlock", None]]
    assert settings["key_file"] == "/state/w1/key"
    compile(dict(launch.files)["serve.py"], "serve.py", "exec")


def test_llama_cpp_python_is_not_interrupted_by_the_next_request() -> None:
    launch = by_name("llama-cpp-python").launch(SETTINGS)
    assert dict(launch.env)["INTERRUPT_REQUESTS"] == "false"
    assert launch.key_env == "API_KEY"
    assert "API_KEY" not in dict(launch.env)
    assert value_after(launch.argv, "--uds") == "/state/w1/sock"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--threads", "3"), {"N_THREADS": "3"}),
        (("n_batch=64", "--flash-attn"), {"N_BATCH": "64", "FLASH_ATTN": "true"}),
        (("--no-mmap",), {"USE_MMAP": "false"}),
        (("--cache-type-k", "q8_0"), {"TYPE_K": "8"}),
        (("--tensor-split", "3,1"), {"TENSOR_SPLIT": "[3,1]"}),
        (("--mlock", "n_batch=64"), {"USE_MLOCK": "true", "N_BATCH": "64"}),
        (("--ctx-size", "128"), {"N_CTX": "128"}),
        (("--seed", "-1"), {"SEED": "-1"}),
    ],
)
def test_arguments_become_settings_of_llama_cpp_python(
    args: tuple[str, ...], expected: dict[str, str]
) -> None:
    env = dict(by_name("llama-cpp-python").launch(replace(SETTINGS, args=args)).env)
    assert env | expected == env


@pytest.mark.parametrize("args", [("--bach-size", "3"), ("model=x",), ("--api-key", "x"), ("lonely",)])
def test_llama_cpp_python_would_ignore_what_it_does_not_know(args: tuple[str, ...]) -> None:
    with pytest.raises(UsageInvalid):
        by_name("llama-cpp-python").launch(replace(SETTINGS, args=args))


def test_a_slip_is_answered_with_the_nearest_setting() -> None:
    with pytest.raises(UsageInvalid) as caught:
        by_name("llama-cpp-python").launch(replace(SETTINGS, args=("--n_bach", "3")))
    assert "n_batch" in str(caught.value.hint)


hostile = st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=40)


@given(model=hostile, value=hostile)
def test_hostile_text_stays_one_value(model: str, value: str) -> None:
    settings = replace(SETTINGS, model_path=f"/m/{model}", args=("--chat-template", value))
    argv = by_name("llama-server").launch(settings).argv
    assert value_after(argv, "--model") == f"/m/{model}"
    assert argv[-2:] == ("--chat-template", value)
    assert settings_json(settings)["model"] == f"/m/{model}"
