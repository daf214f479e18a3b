"""nginx: the reference, and the TLS in front of the mock."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from harness._gateway import Gateway, Launch
from harness._site import Upstream
from harness._tools import Certificate, Tools

__all__ = ["Nginx", "tls_front"]

_CONFIG = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr crit;
worker_processes 1;
worker_rlimit_nofile 65536;
{user}
events {{ worker_connections 16384; }}
http {{
    access_log off;
    tcp_nodelay on;
    client_max_body_size 64m;
    client_body_buffer_size 2m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    upstream mock {{
        server 127.0.0.1:{upstream};
        keepalive 512;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}
    server {{
        listen 127.0.0.1:{listen} backlog=4096;
        {server}
        location / {{
            proxy_pass {scheme}://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_request_buffering on;
            proxy_read_timeout 600s;
            proxy_next_upstream off;
        }}
    }}
}}
"""


def _command(tools: Tools, folder: Path, config: str) -> list[str | Path]:
    path = folder / "nginx.conf"
    path.write_text(config)
    return [tools.nginx, "-p", folder, "-e", "stderr", "-c", path]


def _config(folder: Path, listen: str, upstream: int, scheme: str, server: str = "") -> str:
    return _CONFIG.format(
        folder=folder,
        user="user root;" if os.geteuid() == 0 else "",
        listen=listen,
        upstream=upstream,
        scheme=scheme,
        server=server,
    )


class Nginx(Gateway):
    """``proxy_pass`` at its best: one worker, kept connections, no log, no buffers."""

    name = "nginx"
    label = "nginx proxy_pass"
    note = "the reference: no keys, no limits, no log, no metrics; it doesn't read the body"

    def __init__(self, tools: Tools | None) -> None:
        """``tools`` may be missing as long as it isn't started."""
        self._tools = tools

    def prepare(self) -> None:
        """The tools brought it."""

    def version(self) -> str:
        assert self._tools is not None
        told = subprocess.run([self._tools.nginx, "-v"], capture_output=True, text=True, check=True)
        return told.stderr.strip().rpartition("/")[2]

    def launch(self, folder: Path, port: int, upstream: Upstream) -> Launch:
        scheme, behind = ("https", upstream.tls_port) if upstream.tls else ("http", upstream.port)
        config = _config(folder, str(port), behind, scheme)
        assert self._tools is not None
        return Launch(_command(self._tools, folder, config))


def tls_front(tools: Tools, folder: Path, port: int, mock: int, pair: Certificate) -> Launch:
    """TLS for the mock: on the load's core, so that its cost is nobody's."""
    server = f"ssl_certificate {pair.cert}; ssl_certificate_key {pair.key};"
    return Launch(_command(tools, folder, _config(folder, f"{port} ssl", mock, "http", server)))
