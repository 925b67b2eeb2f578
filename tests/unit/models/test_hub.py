"""A hub on this machine, asked through the real huggingface_hub."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator

import pytest
from hubkit import Hub
from hubkit.server import COMMIT

from rbee_ssh.errors import DownloadFailed, ModelFault, ModelForbidden, ModelNotFound
from rbee_ssh.inventory import Timeouts
from rbee_ssh.models import hub as asking
from rbee_ssh.models.hub_cache import download
from rbee_ssh.models.reference import HubRef, UrlRef
from rbee_ssh.models.remote import Remote, from_memo, is_link, memo_key
from rbee_ssh.reporter import SilentReporter

constants = pytest.importorskip("huggingface_hub.constants")
CONTENT = b"GGUF" + bytes(1000)
TOKEN = "hf_unitTestToken"
TIMEOUTS = Timeouts(download_tries=2, download_wait=0.001)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as hub:
        hub.add("org/open", {"m-Q4_K_M.gguf": CONTENT})
        hub.add("org/private", {"m-Q4_K_M.gguf": CONTENT}, token=TOKEN)
        hub.add("org/gated", {"m-Q4_K_M.gguf": CONTENT}, token=TOKEN, gated=True)
        hub.add("org/small", {"m-Q4_K_M.gguf": CONTENT}, lfs=False)
        hub.add("org/kept", {"m-Q4_K_M.gguf": CONTENT}, token=TOKEN, lfs=False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_TOKEN_PATH", "/nonexistent")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def resolve(repo: str, **wanted: str) -> Remote:
    return asyncio.run(asking.resolve(HubRef("org", repo, **wanted), TIMEOUTS, SilentReporter()))


def links(remote: Remote) -> list[str] | None:
    assert isinstance(remote.ref, HubRef)
    return asyncio.run(asking.links(remote, remote.ref, TIMEOUTS, SilentReporter()))


def test_a_reference_becomes_a_commit_and_files(hub: Hub) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    remote = resolve("open")
    (file,) = remote.files
    assert (remote.revision, remote.size, remote.protected) == (COMMIT, len(CONTENT), False)
    assert (file.sha256, file.place) == (digest, f"hf/org/open/{digest[:12]}/m-Q4_K_M.gguf")
    assert len(hub.asked) == 1
    assert from_memo(remote.ref, json.loads(json.dumps(remote.memo()))) == remote


def test_a_link_needs_no_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for repo in ("open", "private", "gated"):
        (link,) = links(resolve(repo)) or [""]
        assert link.startswith(hub.cdn) and TOKEN not in link
    assert links(resolve("small")) == [f"{hub.endpoint}/org/small/resolve/{COMMIT}/m-Q4_K_M.gguf"]
    assert links(resolve("kept")) is None, "what only the token opens stays here"


def test_what_the_hub_refuses(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for repo in ("private", "nothing"):
        with pytest.raises(ModelForbidden) as caught:
            resolve(repo)
        assert "HF_TOKEN" in (caught.value.hint or "")
    with pytest.raises(ModelForbidden, match="gated"):
        links(resolve("gated"))
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ModelForbidden) as caught:
        links(resolve("gated"))
    assert f"accept the licence at {hub.endpoint}/org/gated" in (caught.value.hint or "")
    with pytest.raises(ModelNotFound):
        resolve("nothing")
    with pytest.raises(ModelNotFound, match="no revision nowhere"):
        resolve("open", revision="nowhere")


def test_a_hub_that_does_not_answer_is_asked_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(DownloadFailed, match="does not answer: Connection refused"):
            resolve("open")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE"):
        resolve("open")


class Listener(SilentReporter):
    """Keeps all that --verbose would show."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def detail(self, text: str) -> None:
        self.heard.append(text)


@pytest.mark.parametrize("status", [None, 404, 401, 500, 302])
def test_a_password_of_the_endpoint_is_repeated_nowhere(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0)) as odd:
        closed.bind(("127.0.0.1", 0))
        port = (odd if status else closed).getsockname()[1]
        reply = f"HTTP/1.1 {status} No\r\nLocation: http://u:hunter2@h:1/\r\nContent-Length: 0\r\n\r\n"

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    one, _ = odd.accept()
                    with one:
                        one.recv(65536)
                        one.sendall(reply.encode())

        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://me:hunter2@127.0.0.1:{port}/hub?key=hunter2")
        listener = Listener()
        with pytest.raises(ModelFault) as caught:
            asyncio.run(asking.resolve(HubRef("org", "open"), TIMEOUTS, listener))
        odd.shutdown(socket.SHUT_RDWR)
    told = json.dumps(caught.value.as_json()) + "".join(listener.heard)
    assert f"http://127.0.0.1:{port}/hub" in told
    assert "hunter2" not in told


def test_the_token_does_not_follow_a_redirect(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with Hub() as other:
        other.add("org/moved", {"m-Q4_K_M.gguf": CONTENT})
        for status in (301, 302, 307, 308):
            hub.moved["org/moved"] = (status, other.endpoint)
            assert resolve("moved").size == len(CONTENT)
        assert all(f"Bearer {TOKEN}" == one.headers["authorization"] for one in hub.asked)
        assert len(other.asked) == 4
        assert [one for one in other.asked if "authorization" in one.headers] == []


def test_a_private_file_that_stays_on_the_hub_is_no_link(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the hub is spelled."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    remote = resolve("kept")
    for spelled in (
        hub.endpoint.replace("//", "//me:hunter2@"),
        hub.endpoint.replace("127.0.0.1", "LOCALHOST"),
    ):
        monkeypatch.setattr(constants, "ENDPOINT", spelled)
        template = spelled.replace("me:hunter2@", "") + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        assert links(remote) is None


def test_a_token_that_is_none_is_repeated_nowhere(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_broken\u2014")
    with pytest.raises(DownloadFailed) as caught:
        resolve("open")
    assert "broken" not in str(caught.value.as_json())
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_file_goes_through_the_cache_of_this_machine(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    remote = resolve("kept")
    assert isinstance(remote.ref, HubRef)
    for _ in range(2):
        path = asyncio.run(download(remote, remote.ref, remote.files[0], TIMEOUTS, SilentReporter()))
        with open(path, "rb") as file:
            assert file.read() == CONTENT
    assert len([one for one in hub.asked if one.method == "GET" and "resolve" in one.path]) == 1


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://cdn.example.org/a/b.gguf?X-Amz-Signature=0f&x=%20", True),
        ("http://10.0.0.1:8080/a", True),
        ("ftp://example.org/a", False),
        ('https://example.org/a"\noutput = "/etc/x', False),
        ("https://example.org/a\\b", False),
        ("https://user:password@example.org/a", False),
        ("https://example.org/a b", False),
        ("-K/etc/passwd", False),
    ],
)
def test_a_link_holds_nothing_that_a_configuration_file_would_read(url: str, good: bool) -> None:
    assert is_link(url) is good


def test_the_memo_of_a_url_does_not_hold_its_query() -> None:
    first, second = (UrlRef(f"https://example.org/m.gguf?sig={n}") for n in (1, 2))
    assert memo_key(first) != memo_key(second)
    assert "example" not in memo_key(first)
    assert from_memo(first, {"files": []}) is None
    assert from_memo(first, {"files": [[1]], "source": "", "revision": None, "protected": False}) is None
