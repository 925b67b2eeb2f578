"""The user's own tasks: found, called, and told of when they fail."""

from __future__ import annotations

import asyncio
import importlib.util
import py_compile
from pathlib import Path

import pytest

from rbee_ssh.errors import SetupFailed
from rbee_ssh.provision import link, recipes
from rbee_ssh.provision.line_writer import LineWriter
from rbee_ssh.reporter import SilentReporter

FILE = """
from invoke import task
seen = []

@task
def decorated(c):
    seen.append(c.run("echo $((1 + 1))").stdout)

def plain(c):
    seen.append(c.run("echo plain").stdout)

def wrong(c):
    c.run("echo it is so; exit 4")

def raising(c):
    raise ValueError("no driver")

def leaving(c):
    raise SystemExit(5)

number = 7
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "recipes.py").write_text(FILE)
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    return tmp_path


def run(base: Path, *names: str) -> list[recipes.Recipe]:
    async def body() -> list[recipes.Recipe]:
        loaded = recipes.load("desk", [f"recipes.py:{name}" for name in names], base)
        here = link.on_this_machine("desk", LineWriter(SilentReporter(), asyncio.get_running_loop()))
        for one in loaded:
            await asyncio.to_thread(recipes.run, here, one)
        return loaded

    return asyncio.run(body())


def test_tasks_run_in_order_with_the_connection(base: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loaded = run(base, "decorated", "plain")
    assert loaded[1].run.__globals__["seen"] == ["2\n", "plain\n"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wrong", "exit status 4 from: echo it is so"),
        ("raising", "ValueError: no driver (recipes.py, line "),
        ("leaving", "exited with 5"),
    ],
)
def test_a_task_that_fails_is_told_with_its_last_lines(base: Path, name: str, says: str) -> None:
    with pytest.raises(SetupFailed, match=f'"recipes.py:{name}" failed') as caught:
        run(base, name)
    assert says in caught.value.message
    assert caught.value.details["output"] == (["it is so"] if name == "wrong" else [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("recipes.py:number", "has no task number"),
        ("recipes.py:missing", "has no task missing"),
        ("nowhere.py:task", "FileNotFoundError"),
        ("broken.py:task", "ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_found_is_said_before_anything_is_done(base: Path, text: str, says: str) -> None:
    with pytest.raises(SetupFailed) as caught:
        recipes.load("desk", [text], base)
    assert says in caught.value.message


def test_the_source_runs_and_not_what_somebody_compiled_beside_it(base: Path) -> None:
    """A repository can bring a .pyc that Python takes without comparing it."""
    source, other = base / "read.py", base / "other.py"
    source.write_text("def task(c): return 'source'\n")
    other.write_text("def task(c): return 'compiled'\n")
    py_compile.compile(
        str(other),
        cfile=importlib.util.cache_from_source(str(source)),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    (recipe,) = recipes.load("n", ["read.py:task"], base)
    assert recipe.run(None) == "source"
