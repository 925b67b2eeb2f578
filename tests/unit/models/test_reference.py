from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.errors import ModelRefInvalid
from rbee_ssh.inventory import Inventory, ModelPreset
from rbee_ssh.models.reference import FORMS, HubRef, LocalFileRef, NodeFileRef, Ref, parse_reference
from rbee_ssh.wording import has_control

EMPTY = Inventory(nodes={})
DIGEST = "0123456789abcdef" * 4


def ref(text: str, inventory: Inventory = EMPTY) -> Ref:
    return parse_reference(text, inventory)[0]


def refusal(text: str, inventory: Inventory = EMPTY) -> ModelRefInvalid:
    with pytest.raises(ModelRefInvalid) as caught:
        parse_reference(text, inventory)
    return caught.value


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("file:///models/tiny.gguf", "/models/tiny.gguf"),
        ("file:///blobs/sha256-0123", "/blobs/sha256-0123"),
        ("file:///m/100% a%20b '\"; $(x) #1?.gguf", "/m/100% a%20b '\"; $(x) #1?.gguf"),
        ("file:///-a/größe/🐝.gguf", "/-a/größe/🐝.gguf"),
        ("file:////m//./a.gguf", "/m/a.gguf"),
        ("file:///m/../a.gguf", "/m/../a.gguf"),
    ],
)
def test_files_of_the_node(text: str, path: str) -> None:
    assert ref(text) == NodeFileRef(path)
    assert ref(ref(text).display) == NodeFileRef(path)


@pytest.mark.parametrize(
    "text",
    [
        "file:",
        "file:a.gguf",
        "file:./a.gguf",
        "file:/a.gguf",
        "file://a.gguf",
        "file://host/a.gguf",
        "file:///",
        "file:///m/",
        "file:///m/.",
        "file:///m/..",
        "file://~/a.gguf",
        "FILE:///a.gguf",
    ],
)
def test_relative_files_and_directories_of_the_node(text: str) -> None:
    refusal(text)


@pytest.mark.parametrize(
    ("text", "path", "display"),
    [
        ("./x.gguf", Path("x.gguf"), "./x.gguf"),
        ("x.gguf", Path("x.gguf"), "./x.gguf"),
        ("X.GGUF", Path("X.GGUF"), "./X.GGUF"),
        ("../m/x.gguf", Path("../m/x.gguf"), "./../m/x.gguf"),
        ("models/tiny", Path("models/tiny"), "./models/tiny"),
        ("/abs/x.gguf", Path("/abs/x.gguf"), "/abs/x.gguf"),
        ("./a:b '$(c)'.gguf", Path("a:b '$(c)'.gguf"), "./a:b '$(c)'.gguf"),
        ("-x.gguf", Path("-x.gguf"), "./-x.gguf"),
    ],
)
def test_files_of_this_machine(text: str, path: Path, display: str) -> None:
    assert ref(text) == LocalFileRef(path)
    assert ref(text).display == display


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert ref("~/m/x.gguf") == LocalFileRef(Path("/home/me/m/x.gguf"))
    assert "~ has no meaning" in refusal("~no-such-user/x.gguf").message


@pytest.mark.parametrize("text", ["models/", "./", "..", "/", ".", "a/.", "a/.."])
def test_directories_of_this_machine(text: str) -> None:
    refusal(text)


@pytest.mark.parametrize(
    ("text", "guess"),
    [("org/repo", "hf:org/repo"), ("a/b/c", None), ("/a/b", None), ("x.gguf", None), ("o rg/repo", None)],
)
def test_a_path_that_may_have_been_meant_for_the_hub(text: str, guess: str | None) -> None:
    found = ref(text)
    assert isinstance(found, LocalFileRef)
    assert found.hub_guess == guess


PRESETS = Inventory(
    nodes={},
    models={
        name: ModelPreset(name, source)
        for name, source in {
            "tiny": "hf:org/repo:Q4_K_M",
            "here": "models/x.gguf",
            "node": "file:///m/x.gguf",
            "again": "tiny",
            "wrong": "hf:nothing",
        }.items()
    },
    path=Path("/etc/lab/inventory.toml"),
)


def test_presets() -> None:
    assert parse_reference("tiny", PRESETS) == (HubRef("org", "repo", quant="Q4_K_M"), PRESETS.models["tiny"])
    assert parse_reference("node", PRESETS) == (NodeFileRef("/m/x.gguf"), PRESETS.models["node"])
    assert parse_reference("hf:org/repo", PRESETS) == (HubRef("org", "repo"), None)


def test_a_path_in_a_preset_is_relative_to_the_inventory() -> None:
    assert ref("here", PRESETS) == LocalFileRef(Path("/etc/lab/models/x.gguf"))
    assert ref("models/x.gguf", PRESETS) == LocalFileRef(Path("models/x.gguf"))


def test_a_preset_that_leads_nowhere() -> None:
    assert "not another preset" in refusal("again", PRESETS).message
    wrong = refusal("wrong", PRESETS).message
    assert '"wrong, which is hf:nothing"' in wrong
    assert "ORG/REPO" in wrong


def test_a_preset_that_is_not_there() -> None:
    assert (
        'the inventory has tiny, here, node, again, wrong; did you mean "tiny"?'
        in refusal("tinny", PRESETS).message
    )
    assert "the inventory has none" in refusal("llama3").message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\x00b.gguf",
        "/m/a\n.gguf",
        "file:///m/a\n",
        "hf:org/repo\n",
        "https://x/a\t.gguf",
        "/m/\x1b[31m.gguf",
        "/m/\u2028.gguf",
        "/m/\udcff.gguf",
        "/m/\x9b.gguf",
        "/" + "x" * 5000 + ".gguf",
        "tiny\n",
    ],
)
def test_text_that_could_be_no_reference(text: str) -> None:
    error = refusal(text, PRESETS)
    assert error.message.isprintable()
    assert len(error.message) < 400


@pytest.mark.parametrize(
    "text", ["s3://b/a.gguf", "ollama:llama3", "C:\\a.gguf", "ssh://h/a.gguf", "a:b.gguf"]
)
def test_schemes_that_are_not_known(text: str) -> None:
    assert "is not known here" in refusal(text).message


def test_the_refusal_lists_every_form_with_an_example() -> None:
    error = refusal("nonsense")
    assert error.code == "MODEL_REF_INVALID"
    assert error.exit_status == 2
    for form, example in FORMS:
        assert form in str(error.hint)
        assert example in str(error.hint)
    json.dumps(error.as_json())


@pytest.mark.parametrize("example", [example for _, example in FORMS[:-1]])
def test_the_examples_are_references(example: str) -> None:
    assert ref(example).display == example


PIECES = st.sampled_from(
    [
        "hf:",
        "file://",
        "https://",
        "http://",
        "/",
        "//",
        "org",
        "repo",
        ":",
        "Q4_K_M",
        "@",
        "main",
        "#sha256=",
        DIGEST,
        ".gguf",
        "..",
        "~",
        "-",
        "?",
        "%00",
        "\x00",
        "\n",
        " ",
        "tiny",
        "[",
        "]",
        "x.org",
        "\\",
    ]
)


@given(st.text(max_size=30) | st.lists(PIECES, max_size=8).map("".join))
def test_any_text_is_a_reference_or_an_error(text: str) -> None:
    try:
        found = ref(text, PRESETS)
    except ModelRefInvalid as error:
        assert error.message.isprintable()
        json.dumps(error.as_json())
        return
    assert not has_control(found.display)
    if isinstance(found, HubRef | NodeFileRef):
        assert ref(found.display) == found
    if isinstance(found, HubRef):
        assert found.quant is None or found.path is None
