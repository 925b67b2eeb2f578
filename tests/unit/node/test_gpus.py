"""What vendors' tools print about their GPUs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.node.gpus import MIB, Gpu, parse_nvidia, parse_rocm

# As printed in LocalAI pull 7761.
ROCM_CSV = """\
device,Unique ID,VRAM Total Memory (B),VRAM Total Used Memory (B),Card Series,Card Model,Card Vendor,Card SKU
card0,0x9246,17163091968,692142080,Navi 21 [Radeon RX 6800/6800 XT / 6900 XT],0x73bf,AMD Inc. [AMD/ATI],001
card1,N/A,67108864,26079232,Raphael,0x164e,Advanced Micro Devices Inc. [AMD/ATI],RAPHAEL
"""


@pytest.mark.parametrize(
    ("line", "gpu"),
    [
        (
            "0, NVIDIA H200, 143771, 143167, 570.133.20",
            Gpu(0, "NVIDIA H200", "nvidia", "cuda", 143771 * MIB, 143167 * MIB, "570.133.20"),
        ),
        (
            "3, Tesla T4, 15360 MiB, 15000 MiB, 535.1",
            Gpu(3, "Tesla T4", "nvidia", "cuda", 15360 * MIB, 15000 * MIB, "535.1"),
        ),
        ("0, NVIDIA GB10, [N/A], [N/A], 580", Gpu(0, "NVIDIA GB10", "nvidia", "cuda", None, None, "580")),
        (
            "1, NVIDIA A100, [Unknown Error], [Not Supported], [N/A]",
            Gpu(1, "NVIDIA A100", "nvidia", "cuda", None, None, None),
        ),
        ("0, A, B and C, 1, 1, 5", Gpu(0, "A, B and C", "nvidia", "cuda", MIB, MIB, "5")),
    ],
)
def test_nvidia(line: str, gpu: Gpu) -> None:
    assert parse_nvidia([line]) == (gpu,)


@pytest.mark.parametrize(
    "line",
    ["No devices were found", "", "x, NVIDIA, 1, 1, 5", "0, NVIDIA", "99999, NVIDIA, 1, 1, 5", "0,,1,1,5"],
)
def test_a_line_that_is_no_gpu_is_passed_over(line: str) -> None:
    assert parse_nvidia([line]) == ()


def test_rocm_as_csv() -> None:
    first, second = parse_rocm("WARNING: low-power state\n" + ROCM_CSV)
    assert first == Gpu(
        0,
        "Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]",
        "amd",
        "rocm",
        17163091968,
        17163091968 - 692142080,
        None,
    )
    assert (second.index, second.name, second.memory_free_bytes) == (1, "Raphael", 67108864 - 26079232)


def test_rocm_cards_are_in_the_order_of_their_numbers() -> None:
    text = (
        '{"card10": {"Card series": "B"}, "card2": {"Card series": "A"}, "system": {"Driver version": "6.8"}}'
    )
    assert [(gpu.index, gpu.name, gpu.driver) for gpu in parse_rocm(text)] == [
        (0, "A", "6.8"),
        (1, "B", "6.8"),
    ]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ('{"Card Series": "N/A", "Device Name": "Phoenix3"}', "Phoenix3"),
        ('{"Card Model": "0x744c"}', "AMD GPU"),
        ("{}", "AMD GPU"),
    ],
)
def test_a_card_without_a_series_has_another_name(fields: str, name: str) -> None:
    assert parse_rocm('{"card0": ' + fields + "}")[0].name == name


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"card0": 5}', '{"card0"', "device,\n", "{" * 5000, "[" * 50000]
)
def test_output_that_is_no_list_of_cards(text: str) -> None:
    assert parse_rocm(text) == ()


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    parse_rocm(text)
    parse_rocm('{"card0": ' + text)
    parse_rocm("device," + text)
    for gpu in parse_nvidia(text.split("\n")):
        assert gpu.name
