"""SIGHUP, as a service manager or an operator sends it, to a process of its own."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def config(*models: str, more: str = "") -> str:
    rows = "".join(f"  - {{name: {name}, target: up/{name}}}\n" for name in models)
    up = "providers: {up: {kind: openai_compatible, base_url: 'http://127.0.0.1:9/v1'}}\n"
    return f"{up}models:\n{rows}{more}"


def models(url: str, key: str = "") -> list[str]:
    request = urllib.request.Request(f"{url}/v1/models")
    if key:
        request.add_header("authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return [row["id"] for row in json.loads(answer.read())["data"]]


def reloads(proxy: Any, count: int) -> list[dict[str, Any]]:
    """The lines of so many reloads."""
    deadline = time.monotonic() + 10
    while True:
        lines = [line for line in proxy.lines if line["event"] == "config_reloaded"]
        if len(lines) >= count:
            return lines
        assert time.monotonic() < deadline, proxy.log
        time.sleep(0.02)


def test_a_reload_and_one_that_is_refused(process: Callable[..., Any], tmp_path: Path) -> None:
    """The file counts from the signal on; a broken one changes nothing, and both have a line."""
    proxy = process(config("old"))
    (tmp_path / "config.yaml").write_text(config("new"))
    proxy.signal(signal.SIGHUP)
    (applied,) = reloads(proxy, 1)
    assert models(proxy.url) == ["new"]
    assert applied["result"] == "applied"
    assert applied["changes"] == ["models: + new → up/new", "models: - old → up/old"]
    (tmp_path / "config.yaml").write_text(config("newer", more="servr: {}\n"))
    proxy.signal(signal.SIGHUP)
    _, refused = reloads(proxy, 2)
    assert (refused["result"], refused["level"]) == ("refused", "error")
    assert "servr" in refused["detail"]
    assert models(proxy.url) == ["new"]
    (tmp_path / "config.yaml").unlink()
    proxy.signal(signal.SIGHUP)
    assert "no such file" in reloads(proxy, 3)[2]["detail"]
    assert models(proxy.url) == ["new"]


def test_what_would_be_refused_at_the_start_is_refused(
    process: Callable[..., Any], tmp_path: Path
) -> None:
    """An open listener can't lose its keys by a reload."""
    keys = "keys: [{name: ci, key: sk-something-long}]\n"
    proxy = process(config("m", more=keys), "--host", "0.0.0.0")
    (tmp_path / "config.yaml").write_text(config("m"))
    proxy.signal(signal.SIGHUP)
    assert "no keys" in reloads(proxy, 1)[0]["detail"]
    assert models(proxy.url, "sk-something-long") == ["m"]


def test_a_secret_in_a_file_is_read_again(process: Callable[..., Any], tmp_path: Path) -> None:
    """``file:`` follows the file at a reload, and the line shows neither the old nor the new."""
    secret = tmp_path / "secret"
    secret.write_text("sk-the-first-one\n")
    keys = f"keys: [{{name: ci, key: 'file:{secret}'}}]\n"
    proxy = process(config("m", more=keys))
    assert models(proxy.url, "sk-the-first-one") == ["m"]
    secret.write_text("sk-the-second-one\n")
    proxy.signal(signal.SIGHUP)
    assert reloads(proxy, 1)[0]["changes"] == ["keys.ci.key changed"]
    assert models(proxy.url, "sk-the-second-one") == ["m"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        models(proxy.url, "sk-the-first-one")
    assert refused.value.code == 401
    refused.value.close()
    assert "-one" not in proxy.log


def test_signals_in_a_row(process: Callable[..., Any], tmp_path: Path) -> None:
    """Twenty at once: the last state of the file is what counts."""
    proxy = process(config("m0"))
    for number in range(1, 21):
        (tmp_path / "config.yaml").write_text(config(f"m{number}"))
        proxy.signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while models(proxy.url) != ["m20"]:
        assert time.monotonic() < deadline, proxy.log
        time.sleep(0.05)


def serial(port: int) -> str:
    """The serial number of the certificate that is served."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 5) as sock,
        context.wrap_socket(sock) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    done = subprocess.run(
        ["openssl", "x509", "-inform", "der", "-noout", "-serial"],
        input=der,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


def new_certificate(folder: Path) -> None:
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
    files = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"]
    subprocess.run(["openssl", *words.split(), *files], capture_output=True, check=True)


def test_a_renewed_certificate(process: Callable[..., Any], tmp_path: Path) -> None:
    """The files of server.tls are read again; broken ones are refused, and the old pair serves."""
    new_certificate(tmp_path)
    pair = f"{{cert: {tmp_path}/cert.pem, key: {tmp_path}/key.pem}}"
    proxy = process(config("m", more=f"server: {{tls: {pair}}}\n"), scheme="https")
    first = serial(proxy.port)
    new_certificate(tmp_path)
    assert serial(proxy.port) == first
    proxy.signal(signal.SIGHUP)
    reloads(proxy, 1)
    second = serial(proxy.port)
    assert second != first
    (tmp_path / "cert.pem").write_text("none")
    proxy.signal(signal.SIGHUP)
    refused = reloads(proxy, 2)[1]
    assert (refused["result"], "server.tls" in refused["detail"]) == ("refused", True)
    assert serial(proxy.port) == second


def test_who_closes_the_terminal_ends_it(tmp_path: Path) -> None:
    """A hang-up of the terminal that it was started in is a stop, as for any command."""
    file = tmp_path / "config.yaml"
    file.write_text(config("m"))
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "proxy_api", "serve", "--config", str(file), "--port", "0"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    told = b""
    while b"Serving m" not in told:
        told += os.read(master, 4096)
    child.send_signal(signal.SIGHUP)
    while b"config_reloaded" not in told:
        told += os.read(master, 4096)
    os.close(master)
    child.send_signal(signal.SIGHUP)
    assert child.wait(10) == 0
