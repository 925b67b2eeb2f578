"""References to the hub and to URLs."""

from __future__ import annotations

import pytest

from rbee_ssh.errors import ModelRefInvalid
from rbee_ssh.inventory import Inventory, ModelPreset
from rbee_ssh.models.reference import HubRef, Ref, UrlRef, parse_reference

EMPTY = Inventory(nodes={})
DIGEST = "0123456789abcdef" * 4


def ref(text: str, inventory: Inventory = EMPTY) -> Ref:
    return parse_reference(text, inventory)[0]


def refusal(text: str, inventory: Inventory = EMPTY) -> ModelRefInvalid:
    with pytest.raises(ModelRefInvalid) as caught:
        parse_reference(text, inventory)
    return caught.value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("hf:org/repo", HubRef("org", "repo")),
        ("hf:The-Bloke_/Tiny.Llama-1.1B-GGUF", HubRef("The-Bloke_", "Tiny.Llama-1.1B-GGUF")),
        ("hf:org/repo:Q4_K_M", HubRef("org", "repo", quant="Q4_K_M")),
        ("hf:org/repo:UD-IQ1_S", HubRef("org", "repo", quant="UD-IQ1_S")),
        ("hf:org/repo/a.gguf", HubRef("org", "repo", path="a.gguf")),
        ("hf:org/repo/sub dir/A 'b'; $(c).GGUF", HubRef("org", "repo", path="sub dir/A 'b'; $(c).GGUF")),
        ("hf:org/repo/a:b.gguf", HubRef("org", "repo", path="a:b.gguf")),
        ("hf:org/repo/a@b.gguf", HubRef("org", "repo", path="a@b.gguf")),
        ("hf:org/repo/模型-00001-of-00003.gguf", HubRef("org", "repo", path="模型-00001-of-00003.gguf")),
        ("hf:org/repo@main", HubRef("org", "repo", revision="main")),
        ("hf:org/repo:Q8_0@v1.0", HubRef("org", "repo", quant="Q8_0", revision="v1.0")),
        ("hf:org/repo@refs/pr/3", HubRef("org", "repo", revision="refs/pr/3")),
        ("hf:org/repo/a@b.gguf@5f3c", HubRef("org", "repo", path="a@b.gguf", revision="5f3c")),
    ],
)
def test_the_hub(text: str, found: HubRef) -> None:
    assert ref(text) == found
    assert found.display == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hf:", "ORG/REPO"),
        ("hf:repo", "ORG/REPO"),
        ("hf:org/", "ORG/REPO"),
        ("hf:/repo", "slashes"),
        ("hf://org/repo", "perhaps hf:org/repo"),
        ("hf:-org/repo", "ORG/REPO"),
        ("hf:org/-repo", "ORG/REPO"),
        ("hf:org/..", "ORG/REPO"),
        ("hf:../repo", "ORG/REPO"),
        ("hf:org/re--po", "ORG/REPO"),
        ("hf:org/re..po", "ORG/REPO"),
        ("hf:o rg/repo", "ORG/REPO"),
        ("hf:örg/repo", "ORG/REPO"),
        ("hf:org/repo?x", "ORG/REPO"),
        ("hf:org/" + "r" * 97, "ORG/REPO"),
        ("hf:org/repo:", "a quant such as Q4_K_M"),
        ("hf:org/repo:a.gguf", "a file comes after /"),
        ("hf:org/repo:-Q4", "a quant"),
        ("hf:org/repo:Q4;id", "a quant"),
        ("hf:org/repo:Q4/a.gguf", "a quant"),
        ("hf:org/repo/", "ends in .gguf"),
        ("hf:org/repo/a.bin", "ends in .gguf"),
        ("hf:org/repo/../../a.gguf", "the path of a file in it"),
        ("hf:org/repo//a.gguf", "the path of a file in it"),
        ("hf:org/repo/..\\a.gguf", "the path of a file in it"),
        ("hf:org/repo@", "a branch, tag or commit"),
        ("hf:org/repo@-x", "a branch, tag or commit"),
        ("hf:org/repo@a..b", "a branch, tag or commit"),
        ("hf:org/repo@a/", "a branch, tag or commit"),
        ("hf:org/repo@main:Q4_K_M", "and nothing after it"),
        ("hf:org/repo@main/a.gguf", "@REVISION comes last"),
        ("HF:org/repo", "write hf: in lower case"),
    ],
)
def test_what_the_hub_would_not_have(text: str, problem: str) -> None:
    assert problem in refusal(text).message


@pytest.mark.parametrize(
    ("text", "found", "display"),
    [
        ("https://x.org/a.gguf", UrlRef("https://x.org/a.gguf"), "https://x.org/a.gguf"),
        ("https://x.org:8443/a/B.GGUF", UrlRef("https://x.org:8443/a/B.GGUF"), "https://x.org:8443/a/B.GGUF"),
        ("https://[::1]/a%20b.gguf", UrlRef("https://[::1]/a%20b.gguf"), "https://[::1]/a%20b.gguf"),
        (
            f"https://x.org/a.gguf#sha256={DIGEST.upper()}",
            UrlRef("https://x.org/a.gguf", DIGEST),
            "https://x.org/a.gguf",
        ),
        (
            f"https://x.org/a.gguf?X-Signature=hunter2#sha256={DIGEST}",
            UrlRef("https://x.org/a.gguf?X-Signature=hunter2", DIGEST),
            "https://x.org/a.gguf",
        ),
    ],
)
def test_urls(text: str, found: UrlRef, display: str) -> None:
    assert ref(text) == found
    assert found.display == display
    assert found.name.lower().endswith(".gguf")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("http://x.org/a.gguf", "use https"),
        ("HTTPS://x.org/a.gguf", "write https: in lower case"),
        ("https:///a.gguf", "it has no host"),
        ("https:a.gguf", "it has no host"),
        ("https://x.org:port/a.gguf", "host or port"),
        ("https://x.org:99999/a.gguf", "host or port"),
        ("https://[::1/a.gguf", "host or port"),
        ("https://x.org/", "does not end in the name of a .gguf file"),
        ("https://x.org/a.zip", "does not end in the name"),
        ("https://x.org/.gguf", "does not end in the name"),
        ("https://x.org/a?f=b.gguf", "does not end in the name"),
        ("https://x.org/a b.gguf", "write %20"),
        ("https://x.org/a.gguf#", "after # comes sha256="),
        ("https://x.org/a.gguf#sha256=12", "64 hexadecimal digits"),
        (f"https://x.org/a.gguf#md5={DIGEST}", "after # comes sha256="),
        (f"https://x.org/a.gguf#sha256={DIGEST}0", "64 hexadecimal digits"),
        ("https://huggingface.co/o/r/blob/main/a.gguf", "write hf:ORG/REPO/FILE.gguf"),
    ],
)
def test_urls_that_are_refused(text: str, problem: str) -> None:
    assert problem in refusal(text).message


@pytest.mark.parametrize(
    "text",
    [
        "https://me:hunter2@x.org/a.gguf",
        "https://hunter2@x.org/a.gguf",
        "https://x.org/a.zip?sig=hunter2",
        "http://me:hunter2@x.org/a.gguf?sig=hunter2",
        "s3://me:hunter2@x/a.gguf",
    ],
)
def test_a_secret_in_a_url_is_not_repeated(text: str) -> None:
    assert "hunter2" not in str(refusal(text).as_json())
    inventory = Inventory(nodes={}, models={"m": ModelPreset("m", text)})
    assert "hunter2" not in str(refusal("m", inventory).as_json())
