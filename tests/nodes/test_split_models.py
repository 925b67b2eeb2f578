"""A model of several files, sent and copied to real nodes, and served by a real engine."""

from __future__ import annotations

from collections.abc import Callable

from nodes.serving import GREEDY, PROMPT, equip, events, text_of, workers
from nodes.split import split
from nodes.test_store import STORE, rbee, sha256

from nodekit import Control, LabNode
from nodekit.engines import Engines


def test_a_split_model_is_served_whole_wherever_its_parts_were(
    make_node: Callable[..., LabNode], control: Control, engines: Engines
) -> None:
    """The second node has a part of it already, under another name."""
    first, second = make_node(), make_node()
    equip(control, engines, first, second, engine="llama-server")
    parts = split(engines.model, control.work)
    whole = sum(part.stat().st_size for part in parts)
    asked = ("--json", "infer", "--context", "512", "--max-tokens", "8", *GREEDY)
    single = control.rbee(*asked, "--model", f"file://{engines.model}", "--node", first.name, PROMPT)
    assert control.rbee("workers", "stop", "--all", "--now").returncode == 0
    # Named by its second part, it is the same model; what it takes is more than its first part.
    told = rbee(control, "show", str(parts[1]), "--node", first.name, "--context", "512")
    assert told["memory"][0]["ram_parts"]["weights"] == whole
    sent = control.rbee(*asked, "--model", str(parts[0]), "--node", first.name, PROMPT)
    assert sent.returncode == 0, sent.stderr
    assert text_of(sent) == text_of(single) != ""
    (worker,) = workers(control)
    again = control.rbee(*asked, "--model", str(parts[0]), "--node", first.name, PROMPT)
    assert [one["id"] for one in workers(control)] == [worker["id"]], again.stderr
    # A part that is gone is sent again.
    first.exec_local(f"rm {STORE}/local/*/{parts[1].name}")
    mended = control.rbee(*asked, "--model", str(parts[0]), "--node", first.name, "--parallel", "2", PROMPT)
    assert (mended.returncode, text_of(mended)) == (0, text_of(single)), mended.stderr
    # A part that lies elsewhere in the second node's store is not sent again, and is found by the engine.
    elsewhere = control.work / "half.gguf"
    elsewhere.write_bytes(parts[1].read_bytes())
    rbee(control, "push", str(elsewhere), "--node", second.name)
    (copied,) = rbee(control, "copy", sha256(parts[0])[:12], "--from", first.name, "--to", second.name)[
        "models"
    ]
    directory = second.outside(copied["path"]).parent
    assert sorted(path.name for path in directory.glob("*.gguf")) == [part.name for part in parts]
    place = f"file://{copied['path']}"
    served = control.rbee(*asked, "--model", place, "--node", second.name, PROMPT)
    assert served.returncode == 0, served.stderr
    assert text_of(served) == text_of(single)
    # Without its second part, it is none.
    second.exec_local(f"rm {STORE}/local/*/{parts[1].name}")
    error = rbee(control, "show", place, "--node", second.name, status=1)["error"]
    assert (error["code"], error["details"]["parts"]) == ("MODEL_INVALID", 1)


def test_a_part_of_another_model_is_not_served(node: LabNode, control: Control, engines: Engines) -> None:
    """Two models of one size with the same first part: each was made anew from the same metadata."""
    equip(control, engines, node, engine="llama-server")
    (control.work / "before").mkdir()
    (control.work / "after").mkdir()
    before, after = (split(engines.model, control.work / name) for name in ("before", "after"))
    data = bytearray(after[1].read_bytes())
    data[-1] ^= 1
    after[1].write_bytes(data)
    asked = ("--json", "infer", "--context", "512", "--max-tokens", "2", *GREEDY, PROMPT, "--model")
    first = control.rbee(*asked, str(before[0]))
    assert first.returncode == 0, first.stdout
    control.rbee("workers", "stop", "--all", "--now", check=True)
    answer = control.rbee(*asked, str(after[0]))
    assert answer.returncode == 1, "the node has the other one's second part"
    assert events(answer)[-1]["error"]["code"] == "CHECKSUM_MISMATCH"
    # What is in the way is named.
    rbee(control, "rm", sha256(before[0])[:12], "--node", node.name)
    answer = control.rbee(*asked, str(after[0]))
    assert answer.returncode == 0, answer.stdout
    assert sha256(next(node.outside(f"{STORE}/local").glob("*/*-00002-*.gguf"))) == sha256(after[1])
