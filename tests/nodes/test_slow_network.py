"""An answer over a line that is slow and loses packets."""

from __future__ import annotations

from nodes.serving import GREEDY, events, text_of

from nodekit import Control, LabNode
from nodekit.engines import Engines
from nodekit.relay import Relay

TOKENS = 256


def test_a_long_answer_is_complete_at_200_ms_and_5_percent_loss(
    node: LabNode, control: Control, engines: Engines
) -> None:
    # One thread: several wait for each other, and on a busy machine mostly that.
    preset = f'[models.tiny]\nsource = "file://{engines.model}"\nargs = ["--threads", "1"]\n'
    words = ["--json", "infer", "--model", "tiny", *GREEDY, "Tell a very long story."]
    with Relay(node, delay=0.1) as relay:
        keys = engines.inventory_keys("llama-server")
        control.inventory(node, every=keys, nodes_also={"far": relay.keys | keys}, text=preset)
        control.known_hosts.write_text(f"{node.host_key_line}\n{relay.host_key_line}\n")
        # The first answer fills the engine's prompt cache, which changes the last bits of what follows.
        for tokens in (1, TOKENS):
            near = control.rbee(*words, "--node", node.name, "--max-tokens", str(tokens), check=True)
        node.lose(0.05)
        far = control.rbee(*words, "--node", "far", "--max-tokens", str(TOKENS), timeout=100)
        assert far.returncode == 0, far.stdout[-500:] + far.stderr
    said = events(far)
    assert said[0]["worker"] == events(near)[0]["worker"], "one worker, two ways to it"
    assert [one["index"] for one in said if one["event"] == "token"] == list(range(len(said) - 2))
    assert (said[-1]["event"], said[-1]["tokens"]) == ("done", TOKENS)
    assert text_of(far) == text_of(near) != ""
    assert said[-1]["time_to_first_token_ms"] > 200, "the line was not slow: nothing was shown"
    assert node.lost() > 5, "the line lost nothing: nothing was shown"
