"""run.sh: the command line of a worker, as a shell on the node will read it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from rbee_ssh.engines import Launch
from rbee_ssh.workers.start import run_sh

SHOW = (
    "python3",
    "-c",
    "import os,sys,json; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))",
)


def start(tmp_path: Path, launch: Launch, env: tuple[tuple[str, str], ...]) -> list[object]:
    import json

    (tmp_path / "key").write_text("the key\n")
    text = run_sh(launch, env, str(tmp_path))
    answer = subprocess.run(["sh"], input=text, capture_output=True, text=True, check=True)
    return list(json.loads(answer.stdout))


def test_arguments_and_environment_arrive_as_they_were(tmp_path: Path) -> None:
    hostile = ("--x", "a b", "$(id)", "'", "new\nline", "-")
    argv, env, cwd = start(
        tmp_path,
        Launch(argv=(*SHOW, *hostile), env=(("A", "engine"),)),
        (("B", "$HOME `id` '\""), ("A", "user")),
    )
    assert argv == list(hostile)
    assert isinstance(env, dict)
    assert env["B"] == "$HOME `id` '\""
    assert env["A"] == "engine", "what the engine needs stands over the user's env"
    assert cwd == str(tmp_path)


def test_the_key_comes_from_its_file_and_stands_nowhere_else(tmp_path: Path) -> None:
    launch = Launch(argv=SHOW, key_env="API_KEY")
    argv, env, _ = start(tmp_path, launch, ())
    assert isinstance(env, dict)
    assert env["API_KEY"] == "the key"
    assert argv == []
    assert "the key" not in run_sh(launch, (), str(tmp_path))
