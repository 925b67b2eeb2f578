"""A llama-server for a node, whose prompts say how it shall misbehave: odd_engine.py SOCKET."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
WORDS = "żółw 🐝 naïve 漢字"
MANY = 1_000_000


def token(text: str) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"' + text.encode() + b'"}}]}\n\n'


def answer(prompt: str) -> Iterator[bytes | float]:
    """What is sent, and for how many seconds nothing is."""
    if prompt == "half a JSON text":
        yield SSE + token("a") + b'data: {"choices":[{"delta":\n\n'
    elif prompt == "a web page":
        yield SSE + b"<!DOCTYPE html>\n\x1b[2J<html>\n"
    elif prompt == "no last line end":
        yield SSE + token("a") + token("b").removesuffix(b"\n\n") + b"\n\n" + DONE.rstrip()
    elif prompt == "byte by byte":
        for at in range(len(whole := SSE + token(WORDS) + DONE)):
            yield whole[at : at + 1]
            yield 0.001
    elif prompt == "a million events":
        yield SSE
        for _ in range(MANY // 1000):
            yield token("x") * 1000
        yield DONE
    elif prompt == "a line of a gigabyte":
        yield SSE + token("a") + b"data: "
        for _ in range(2**14):
            yield b"x" * 2**16
    elif prompt == "a header of a gigabyte":
        yield b"HTTP/1.1 200 OK\r\nX: "
        for _ in range(2**14):
            yield b"x" * 2**16
    elif prompt == "headers without end":
        yield b"HTTP/1.1 200 OK\r\n"
        while True:
            yield b"X: y\r\n" * 1000
    elif prompt == "nothing but promises":
        while True:
            yield b"HTTP/1.1 100 Continue\r\n\r\n" * 100
    elif prompt == "a chunk that never ends":
        yield CHUNKED + b"7fffffff\r\n" + token("a")
        yield 600.0
    elif prompt == "a line that never ends":
        yield SSE + token("a")
        while True:
            yield b": "
            yield 0.3
    elif prompt == "pings without end":
        yield SSE + token("a")
        while True:
            yield b": ping\n\n"
            yield 0.3
    elif prompt == "more than its length":
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n" + token("a") + token("b") + DONE
    elif prompt == "less than its length":
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + token("a")
    elif prompt == "a redirect":
        yield b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    elif prompt == "an error without end":
        yield b"HTTP/1.1 500 No\r\nContent-Type: text/html\r\n\r\n"
        while True:
            yield b"<br>\x1b[2J" * 1000


def serve(there: socket.socket) -> None:
    with there:
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += there.recv(65536)
        if b"/health" in asked:
            there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        while not (body := asked.partition(b"\r\n\r\n")[2]).endswith(b"}"):
            asked += there.recv(65536)
        try:
            for piece in answer(json.loads(body)["messages"][-1]["content"]):
                if isinstance(piece, float):
                    time.sleep(piece)
                else:
                    there.sendall(piece)
        except OSError:
            pass  # the client has had enough


def main() -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(sys.argv[1])
    server.listen()
    print("server is listening on it; main: model loaded", flush=True)
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    main()
