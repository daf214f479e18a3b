"""A llama.cpp server in a process of its own: ``python _local_server.py --gguf FILE --port N``.

It is run by its path, with the standard library and xllamacpp alone, so that it starts without
importing the proxy. The first line of its standard input is JSON with the key that it asks for
(``api_key``); it ends when that input ends. When it can answer it writes one line to its standard
output: ``{"address": "http://127.0.0.1:N"}``. Whatever llama.cpp prints goes to standard error.
"""

from __future__ import annotations

import argparse
import ctypes
import http.client
import json
import os
import signal
import sys
import threading
import time
from typing import Any

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_READY_SECONDS = 120.0
# llama.cpp's own levels.
_ERRORS = 1
_ALL_LINES = 3


def main() -> None:
    """Serve until the standard input ends, SIGTERM comes or the parent dies."""
    options = _options()
    _end_with(options.parent)
    report = os.dup(1)
    os.dup2(2, 1)
    api_key = json.loads(sys.stdin.buffer.readline())["api_key"]
    threading.Thread(target=_end_with_input, daemon=True).start()
    server = _serve(options, api_key)
    _wait_until_healthy(options.port)
    os.write(report, json.dumps({"address": server.listening_address}).encode() + b"\n")
    while True:
        signal.pause()


def _end_with_input() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gguf", required=True, help="file with the weights")
    parser.add_argument("--port", required=True, type=int, help="loopback port to listen on")
    parser.add_argument("--name", default="local", help="the model's name in answers")
    parser.add_argument("--parent", required=True, type=int, help="process to end with")
    parser.add_argument("--threads", type=int, default=1, help="threads that compute")
    parser.add_argument("--verbose", action="store_true", help="all of llama.cpp's own lines")
    return parser.parse_args()


def _end_with(parent: int) -> None:
    """SIGTERM and the parent's death end the process at once: it has nothing to put in order."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def _serve(options: argparse.Namespace, api_key: str) -> Any:
    import xllamacpp  # type: ignore[import-untyped]  # it ships no types

    params = xllamacpp.CommonParams()
    params.model.path = options.gguf
    params.model_alias = {options.name}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    # The parent holds the port (bound, not listening) so that it stays ours between two children.
    params.reuse_port = True
    params.api_keys = [api_key]
    params.offline = True
    params.ui = False
    params.use_jinja = True
    params.fit_params = False
    params.warmup = False
    params.n_gpu_layers = 0
    # 2,048 tokens for each of four requests at a time.
    params.n_ctx = 8192
    params.n_parallel = 4
    # An embedding's input must fit into one batch: 512 by default, and a 500 for what is longer.
    params.n_batch = params.n_ubatch = 2048
    # llama.cpp would keep up to 8 GiB of prompts that it has seen.
    params.cache_ram_mib = 64
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.verbosity = _ALL_LINES if options.verbose else _ERRORS
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return xllamacpp.Server(params)


def _wait_until_healthy(port: int) -> None:
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    raise SystemExit("llama.cpp did not become ready")


if __name__ == "__main__":
    main()
