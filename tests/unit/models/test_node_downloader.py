"""Where redirects may lead. What node_downloader.py fetches is tried on nodes."""

from __future__ import annotations

import http.client
import io
import urllib.error
import urllib.request

import pytest

from rbee_ssh.models.node_downloader import Redirects, inward

INWARD = [
    "http://127.0.0.1/a",
    "https://127.8.9.1:8443/a",
    "http://localhost:9/a",
    "http://LOCALHOST./a",
    "http://x.localhost/a",
    "http://[::1]/a",
    "http://[::ffff:127.0.0.1]/a",
    "http://[fe80::1%25eth0]/a",
    "http://[fe80::1]/a",
    "http://[::]/a",
    "http://0.0.0.0/a",
    "http://169.254.169.254/latest/meta-data",
    "http://2130706433/a",
    "http://0x7f.1/a",
    "http://127.1/a",
    "http://user:word@127.0.0.1/a",
]
OUTWARD = [
    "https://example.org/a",
    "https://127.0.0.1.example.org/a",
    "https://localhost.example.org/a",
    "http://10.0.0.1/a",
    "http://192.168.1.2:8080/a",
    "http://172.16.0.9/a",
    "http://[fd00::2]/a",
    "http://mirror/a",
    "http:///a",
    "",
]


@pytest.mark.parametrize("url", INWARD)
def test_what_leads_inward(url: str) -> None:
    assert inward(url)


@pytest.mark.parametrize("url", OUTWARD)
def test_what_leads_elsewhere(url: str) -> None:
    assert not inward(url), "a mirror in the same network is one"


def followed(origin: str, to: str) -> bool:
    request = urllib.request.Request(origin)
    try:
        new = Redirects().redirect_request(request, io.BytesIO(), 302, "Found", http.client.HTTPMessage(), to)
    except urllib.error.HTTPError as error:
        assert error.code == 310
        return False
    return new is not None


@pytest.mark.parametrize(
    ("origin", "to", "good"),
    [
        ("https://example.org/a", "https://cdn.example.org/a", True),
        ("https://example.org/a", "http://cdn.example.org/a", False),
        ("https://example.org/a", "https://127.0.0.1/a", False),
        ("http://10.0.0.1/a", "http://10.0.0.2/a", True),
        ("http://10.0.0.1/a", "http://169.254.169.254/a", False),
        ("http://127.0.0.1:1/a", "http://127.0.0.1:2/a", True),
        ("http://127.0.0.1:1/a", "http://example.org/a", True),
    ],
)
def test_a_redirect_leads_inward_only_from_there(origin: str, to: str, good: bool) -> None:
    assert followed(origin, to) is good
