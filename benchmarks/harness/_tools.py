"""Programs that the benchmark needs: our two in C, wrk, nginx, a certificate."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness._site import BENCHMARKS, CACHE, BenchError, missing, run, say

__all__ = ["Certificate", "Tools", "certificate", "ensure_tools", "machine"]

_PACKAGES = ("nginx", "wrk", "libluajit-5.1-2", "libluajit-5.1-common")
_NATIVE = ("mock", "load")


class Tools:
    """Paths of the programs, and what they need in the environment."""

    def __init__(self, binaries: Path, unpacked: Path) -> None:
        self.mock = binaries / "mock"
        self.load = binaries / "load"
        self.post_lua = BENCHMARKS / "native/post.lua"
        self.nginx = shutil.which("nginx") or str(unpacked / "usr/sbin/nginx")
        self.wrk = shutil.which("wrk") or str(unpacked / "usr/bin/wrk")
        libraries = ":".join(map(str, unpacked.glob("usr/lib/*-linux-gnu")))
        self.env = {"LD_LIBRARY_PATH": libraries} if libraries else {}


def ensure_tools() -> Tools:
    """Compile and fetch what is missing. Raises BenchError with the remedy."""
    if lacking := missing(("cc", "openssl", "taskset")):
        raise BenchError(f"{', '.join(lacking)} needed: apt install gcc openssl util-linux")
    binaries = CACHE / "bin"
    binaries.mkdir(exist_ok=True)
    for name in _NATIVE:
        _compile(BENCHMARKS / f"native/{name}.c", binaries / name)
    unpacked = CACHE / "tools"
    if missing(("nginx", "wrk")) and not (unpacked / "usr/bin/wrk").exists():
        _unpack(unpacked)
    return Tools(binaries, unpacked)


def _compile(source: Path, binary: Path) -> None:
    if binary.exists() and binary.stat().st_mtime > source.stat().st_mtime:
        return
    say(f"compiles {source.name}")
    run("cc", "-O2", "-Wall", "-Wextra", "-o", binary, source, "-lm")


def _unpack(unpacked: Path) -> None:
    """Debian's packages beside us, not into the system: no service is started, no root needed."""
    say(f"fetches Debian's {', '.join(_PACKAGES)} into {unpacked.relative_to(CACHE.parent)}")
    folder = CACHE / "debs"
    folder.mkdir(exist_ok=True)
    try:
        _download(folder)
    except BenchError as error:
        raise BenchError(
            f"nginx and wrk are needed: apt-get update && apt-get install nginx wrk\n{error}"
        ) from error
    for package in folder.glob("*.deb"):
        run("dpkg-deb", "-x", package, unpacked)


@dataclass(frozen=True)
class Certificate:
    """Of 127.0.0.1, signed by a CA of its own: several clients refuse one that signs itself."""

    ca: Path
    cert: Path
    key: Path


def _download(folder: Path) -> None:
    try:
        run("apt-get", "download", *_PACKAGES, cwd=folder)
    except BenchError:
        if os.geteuid() != 0:
            raise
        say("refreshes the lists of Debian's packages")
        run("apt-get", "update", "-qq")
        run("apt-get", "download", *_PACKAGES, cwd=folder)


def certificate() -> Certificate:
    """Made once."""
    folder = CACHE / "tls"
    folder.mkdir(exist_ok=True)
    made = Certificate(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    if made.ca.exists() and made.cert.exists():
        return made
    new = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    common = (*new, "-nodes", "-days", "3650")
    ca_key = folder / "ca-key.pem"
    run(
        *(*common, "-subj", "/CN=LLM Proxy benchmark", "-keyout", ca_key, "-out", made.ca),
        *("-addext", "keyUsage=critical,keyCertSign"),
    )
    run(
        *(*common, "-subj", "/CN=127.0.0.1", "-keyout", made.key, "-out", made.cert),
        *("-CA", made.ca, "-CAkey", ca_key, "-addext", "basicConstraints=critical,CA:FALSE"),
        *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        *("-addext", "extendedKeyUsage=serverAuth"),
    )
    return made


def machine(tools: Tools) -> dict[str, str]:
    """What the figures hold for."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
    memory = Path("/proc/meminfo").read_text().split()[1]
    wrk = run(tools.wrk, "-v", env=tools.env, check=False).partition("\n")[0]
    return {
        "cpu": f"{cpu}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{int(memory) // 1024} MB",
        "kernel": f"{platform.system()} {platform.release()}",
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "load average before": f"{os.getloadavg()[0]:.2f}",
        "harness": f"Python {platform.python_version()}",
        "commit": run("git", "rev-parse", "--short", "HEAD", cwd=BENCHMARKS, check=False).strip(),
        "wrk": wrk.partition(" Copyright")[0],
    }
