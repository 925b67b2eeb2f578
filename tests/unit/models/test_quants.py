"""Which model of a repository a reference means."""

from __future__ import annotations

import pytest

from rbee_ssh.errors import ModelAmbiguous, ModelNotFound
from rbee_ssh.models.quants import HubFile, choose, quant_of
from rbee_ssh.models.reference import HubRef


def files(*paths: str) -> list[HubFile]:
    return [HubFile(path, 100 + number) for number, path in enumerate(paths)]


def chosen(paths: tuple[str, ...], quant: str | None = None, path: str | None = None) -> list[str]:
    return [file.path for file in choose(HubRef("org", "repo", quant, path), files(*paths)).files]


@pytest.mark.parametrize(
    ("path", "quant"),
    [
        ("tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf", "Q4_K_M"),
        ("SmolLM2-135M-Instruct.fp16.gguf", "F16"),
        ("gemma-3-27b-it-IQ4_XS.gguf", "IQ4_XS"),
        ("Meta-Llama-3.1-8B-Instruct-Q4_0_4_4.gguf", "Q4_0_4_4"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("Qwen3-30B-A3B-UD-Q4_K_XL-00001-of-00002.gguf", "UD-Q4_K_XL"),
        ("BF16/model-00001-of-00003.gguf", "BF16"),
        ("Q8_0/model-q5_k_s.gguf", "Q5_K_S"),
        ("model.gguf", None),
        ("Qwen2-7B.gguf", None),
    ],
)
def test_a_quant_stands_in_the_name_or_the_directory(path: str, quant: str | None) -> None:
    assert quant_of(path) == quant


def test_without_a_quant_the_rule_decides() -> None:
    assert chosen(("m-Q8_0.gguf", "m-Q5_K_M.gguf", "m-Q4_0.gguf", "README.md")) == ["m-Q5_K_M.gguf"]
    assert chosen(("m-F16.gguf", "m-IQ2_XS.gguf", "m-Q8_0.gguf")) == ["m-Q8_0.gguf"]
    assert chosen(("only.gguf",)) == ["only.gguf"]
    assert chosen(("m-IQ2_XS.gguf", "mmproj-m-F16.gguf", "m.imatrix.gguf")) == ["m-IQ2_XS.gguf"]


def test_a_quant_is_compared_without_case_and_the_exact_one_comes_first() -> None:
    both = ("m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf")
    assert chosen(both, "q4_k_m") == ["m-Q4_K_M.gguf"]
    assert chosen(both[:1], "Q4_K_M") == ["m-UD-Q4_K_M.gguf"]


def test_where_the_rule_does_not_decide_the_list_is_shown_with_sizes() -> None:
    with pytest.raises(ModelAmbiguous) as caught:
        chosen(("a-Q4_K_M.gguf", "b-Q4_K_M.gguf", "b-Q8_0.gguf"))
    assert [one["path"] for one in caught.value.details["models"]] == ["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"]
    assert "MiB" in caught.value.message
    with pytest.raises(ModelAmbiguous):
        chosen(("m-Q2_K.gguf", "m-Q3_K_S.gguf"))


def test_all_parts_of_a_split_model_belong_to_it() -> None:
    parts = tuple(f"Q4_K_M/m-Q4_K_M-0000{n}-of-00003.gguf" for n in (1, 2, 3))
    shuffled = (parts[2], "m-Q8_0.gguf", parts[0], parts[1])
    assert chosen(shuffled) == list(parts)
    assert chosen(shuffled, path=parts[1]) == list(parts)
    with pytest.raises(ModelNotFound, match="lacks"):
        chosen(parts[:2], path=parts[0])
    with pytest.raises(ModelNotFound, match="no GGUF file"):
        chosen(parts[1:])


def test_what_is_not_there_is_told_with_what_is_near() -> None:
    have = ("m-Q4_K_M.gguf", "m-Q8_0.gguf")
    with pytest.raises(ModelNotFound) as caught:
        chosen(have, path="m-Q4_K_N.gguf")
    assert caught.value.details["near"][0] == "m-Q4_K_M.gguf"
    assert caught.value.hint == "rbee models pull hf:org/repo/m-Q4_K_M.gguf"
    with pytest.raises(ModelNotFound) as caught:
        chosen(have, "Q4_K_L")
    assert caught.value.details["quants"] == ["Q4_K_M", "Q8_0"]
    assert caught.value.hint == "rbee models pull hf:org/repo:Q4_K_M"
    with pytest.raises(ModelNotFound):
        chosen(("README.md",))


def test_a_name_in_a_hint_is_one_word_for_a_shell() -> None:
    with pytest.raises(ModelAmbiguous) as caught:
        chosen(("a;$(reboot).gguf", "b.gguf"))
    assert (caught.value.hint or "").startswith("rbee models pull 'hf:org/repo/a;$(reboot).gguf' ")
