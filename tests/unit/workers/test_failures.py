"""What became of a worker, in words and under the right code."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.errors import RbeeError, WorkerCrashed
from rbee_ssh.workers import failures
from rbee_ssh.workers.records import Record

ID = "0123456789ab"


def ended(status: int | None, *log: str, state: str = "failed") -> Record:
    values = {"state": state, "directory": "/home/me/x"} | ({} if status is None else {"exit": str(status)})
    return Record(ID, values, log)


@pytest.mark.parametrize(
    ("status", "lines", "code"),
    [
        (1, ["error loading model: invalid magic characters"], "MODEL_INVALID"),
        (1, ["gguf_init_from_file: failed to read magic"], "MODEL_INVALID"),
        (1, ["unknown model architecture: 'llama9'", "failed to load model"], "MODEL_INVALID"),
        (1, ["E srv load_model: Failed to load model, 'x.gguf'"], "MODEL_INVALID"),
        (1, ["error: unknown argument --fast"], "WORKER_START_FAILED"),
        (1, [], "WORKER_START_FAILED"),
        (0, [], "WORKER_START_FAILED"),
        (126, [], "ENGINE_BROKEN"),
        (127, ["error while loading shared libraries: libggml.so"], "ENGINE_BROKEN"),
        (132, ["failed to load model"], "ENGINE_BROKEN"),
        (137, ["failed to load model"], "WORKER_START_FAILED"),
        (139, ["failed to load model"], "WORKER_START_FAILED"),
        (None, [], "WORKER_START_FAILED"),
        # A sound model, and too little memory for it.
        (1, ["cudaMalloc failed: out of memory", "failed to load model"], "WORKER_START_FAILED"),
        (1, ["unable to allocate CUDA0 buffer", "failed to load model 'x.gguf'"], "WORKER_START_FAILED"),
        (1, ["mmap failed: Cannot allocate memory", "failed to load model"], "WORKER_START_FAILED"),
        (1, ["error loading model vocabulary: std::bad_alloc"], "WORKER_START_FAILED"),
        (
            1,
            ["failed to allocate CPU buffer", "failed to load model"],
            "WORKER_START_FAILED",
        ),
        (
            1,
            ["vk: ErrorOutOfDeviceMemory", "failed to load model"],
            "WORKER_START_FAILED",
        ),
    ],
)
def test_a_start_that_failed(status: int | None, lines: list[str], code: str) -> None:
    error = failures.start_failed(ended(status, *lines), "gpu1", "llama-server")
    assert error.code == code
    assert error.exit_status == 1
    assert error.hint == f"rbee workers logs {ID}"
    assert error.details["exit_status"] == status
    assert error.details["last_lines"] == lines
    assert error.details["log"] == "/home/me/x/log"
    assert all(line in error.message for line in lines)
    assert ("vanished" in error.message) is (status is None)


def test_of_a_long_log_the_end_is_shown() -> None:
    lines = [f"line {number}" for number in range(20)]
    error = failures.start_failed(ended(1, *lines, "", "  "), "a", "xllamacpp")
    assert error.details["last_lines"] == lines[-8:]
    assert "line 11\n" not in error.message


def test_a_start_that_took_too_long() -> None:
    error = failures.start_timeout(
        ended(None, "tensor 3 of 9", state="loading"), "a", 300.0, "did not answer"
    )
    assert error.code == "WORKER_START_TIMEOUT"
    assert "300 s" in error.message
    assert "tensor 3 of 9" in error.message
    assert error.details == {"node": "a", "worker": ID, "seconds": 300.0, "state": "loading"}


@pytest.mark.parametrize(
    ("record", "wanted", "says"),
    [
        (ended(137, state="dead"), 100, ["after 7 tokens of at most 100", "SIGKILL"]),
        (ended(139, "stack smashed", state="dead"), None, ["after 7 tokens:", "SIGSEGV"]),
        (ended(None, state="stopping"), None, ["another command stopped it"]),
        (None, None, ["another command stopped it"]),
    ],
)
def test_an_answer_that_broke_off(record: Record | None, wanted: int | None, says: list[str]) -> None:
    error = failures.crashed(record, "gpu1", ID, 7, wanted)
    assert isinstance(error, WorkerCrashed)
    assert all(text in error.message for text in says)
    assert (error.details["tokens"], error.details["max_tokens"]) == (7, wanted)
    assert error.details["last_lines"] == (list(record.log) if record else [])
    assert error.hint is not None
    logs = record is not None and record.state != "stopping"
    assert (ID in error.hint) is logs


@given(
    st.dictionaries(st.sampled_from(["exit", "state", "directory", "pid"]), st.text(max_size=30)),
    st.lists(st.text(max_size=40), max_size=12),
    st.text(max_size=20),
)
def test_whatever_a_node_says_is_an_error_of_ours(values: dict[str, str], log: list[str], node: str) -> None:
    record = Record(ID, values, tuple(log))
    errors: list[RbeeError] = [
        failures.start_failed(record, node, "xllamacpp"),
        failures.start_timeout(record, node, 1.5, "did not answer"),
        failures.crashed(record, node, ID, 0, 1),
    ]
    for error in errors:
        json.dumps(error.as_json())
        assert error.hint
        shlex.split(error.hint)


@pytest.mark.parametrize("record", [None, ended(None, state="stopping"), ended(143, state="stopped")])
def test_an_answer_that_somebody_stopped(record: Record | None) -> None:
    error = failures.crashed(record, "gpu1", ID, 151, 600)
    assert "another command stopped it" in error.message
    assert error.hint == "run the command again", "there are no logs any more"
