"""The user's own Fabric tasks: `setup = ["recipes.py:driver"]` on a node of the inventory."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import paramiko
from invoke.exceptions import Failure, ThreadException

from rbee_ssh.errors import SetupFailed
from rbee_ssh.provision.link import Link
from rbee_ssh.provision.problems import of_recipe


@dataclass(frozen=True, slots=True)
class Recipe:
    """One task of a file."""

    text: str  # as the inventory has it
    run: Callable[[Any], Any]


def load(node: str, texts: Sequence[str], base: Path) -> list[Recipe]:
    """Import the files and find the tasks, before anything is done on a node.

    Args:
        texts: `FILE.py:TASK`; a relative file is looked for beside the inventory.
        base: the inventory's directory.

    Raises:
        SetupFailed: no such file or task, or the file raises when it is imported.
    """
    return [Recipe(text, _task(node, text, base)) for text in texts]


def _task(node: str, text: str, base: Path) -> Callable[[Any], Any]:
    file, _, name = text.rpartition(":")
    path = base / Path(file).expanduser()
    try:
        module = _module(path)
    except Exception as error:
        raise of_recipe(node, text, _where(error), []) from error
    task = getattr(module, name, None)
    if not callable(task):
        raise of_recipe(node, text, f"{path} has no task {name}", [])
    return task  # type: ignore[no-any-return]


class _Source(SourceFileLoader):
    """What stands in the file, never a .pyc beside it: who has read the file has not read that."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _module(path: Path) -> ModuleType:
    """The file as a module, once a process: several nodes share it."""
    name = "rbee_recipe_" + sha256(str(path).encode()).hexdigest()[:16]
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path, loader=_Source(name, str(path)))
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def run(link: Link, recipe: Recipe) -> None:
    """Run a task: it is called with the connection (on localhost with invoke's Context).

    Raises:
        SetupFailed: it raised; with the last lines that its commands printed.
    """
    link.sink.tell(f"running {recipe.text}")
    link.sink.last.clear()
    try:
        recipe.run(link.context)
    except Failure as error:
        result = error.result
        raise _failed(link, recipe, f"exit status {result.exited} from: {result.command}") from error
    except (ThreadException, paramiko.SSHException, EOFError) as error:
        raise _failed(link, recipe, f"the connection broke: {error}") from error
    except Exception as error:
        raise _failed(link, recipe, _where(error)) from error
    except SystemExit as error:
        if error.code not in (None, 0):
            raise _failed(link, recipe, f"it exited with {error.code}") from error
    finally:
        link.sink.flush_rest()


def _failed(link: Link, recipe: Recipe, message: str) -> SetupFailed:
    return of_recipe(link.node, recipe.text, message, list(link.sink.last))


def _where(error: BaseException) -> str:
    """The error, and the line of the user's file that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    last = next((frame for frame in reversed(frames) if frame.filename.endswith(".py")), None)
    where = f" ({Path(last.filename).name}, line {last.lineno})" if last else ""
    return f"{type(error).__name__}: {error}{where}"
