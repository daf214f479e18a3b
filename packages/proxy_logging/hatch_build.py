"""Build backend of the packages of this repository: hatchling, and siblings that are live.

A wheel or an sdist asks for its siblings by a plain range, ``proxy-logging>=0.1,<0.2``. An editable
install by pip out of a checkout asks for ``proxy-logging @ file:///…/packages/proxy_logging``
instead, so that ``pip install -e packages/proxy_core`` finds it here and never on an index. What
the same run of pip builds after that is built editable too, so every sibling is live.

How a build knows: pip exports PIP_BUILD_TRACKER, a folder that lives as long as its run. The first
editable build leaves a marker in it. uv has its workspace for this, and its lock must hold no path.

This file stands byte for byte in each package, since an sdist must be whole. A test compares them.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_TRACKER = "PIP_BUILD_TRACKER"
_SIBLING = re.compile(r"(?P<name>proxy-\w+)\s*(?P<extras>\[[^]]*])?[^;]*(?P<marker>;.*)?")


def _whole_hatchling() -> Any:
    """Import hatchling's backend with its metadata functions, which it hides from pip."""
    tracker = os.environ.pop(_TRACKER, None)
    try:
        return importlib.import_module("hatchling.build")
    finally:
        if tracker is not None:
            os.environ[_TRACKER] = tracker


_hatchling = _whole_hatchling()
build_sdist = _hatchling.build_sdist
get_requires_for_build_sdist = _hatchling.get_requires_for_build_sdist
get_requires_for_build_wheel = _hatchling.get_requires_for_build_wheel
# Not hatchling's own, which adds `editables`: with dev-mode-dirs a .pth file is all there is.
get_requires_for_build_editable = _hatchling.get_requires_for_build_wheel


def _marker() -> Path | None:
    """Name the file that says "pip installs something editable", or None when pip does not run."""
    tracker = os.environ.get(_TRACKER)
    return Path(tracker, "proxy-editable") if tracker and Path(tracker).is_dir() else None


def _in_editable_run() -> bool:
    marker = _marker()
    return marker is not None and marker.exists()


def _mark() -> None:
    if marker := _marker():
        marker.touch()


def build_editable(directory: str, settings: Any = None, metadata: str | None = None) -> str:
    """Build the editable wheel, and mark this run of pip."""
    _mark()
    return str(_hatchling.build_editable(directory, settings, metadata))


def build_wheel(directory: str, settings: Any = None, metadata: str | None = None) -> str:
    """Build the wheel; in a run that installs something editable, the editable one."""
    if _in_editable_run():
        return build_editable(directory, settings, metadata)
    return str(_hatchling.build_wheel(directory, settings, metadata))


def prepare_metadata_for_build_editable(directory: str, settings: Any = None) -> str:
    """Write the metadata of the editable wheel, and mark this run of pip."""
    _mark()
    return str(_hatchling.prepare_metadata_for_build_editable(directory, settings))


def prepare_metadata_for_build_wheel(directory: str, settings: Any = None) -> str:
    """Write the wheel's metadata. Without this, pip would build wheels before the marker stands."""
    if _in_editable_run():
        return prepare_metadata_for_build_editable(directory, settings)
    return str(_hatchling.prepare_metadata_for_build_wheel(directory, settings))


def _asked_for() -> set[Path]:
    """List the folders on pip's command line: it refuses a URL for what it installs editable."""
    parent = os.getppid()
    try:
        words = Path(f"/proc/{parent}/cmdline").read_text().split("\0")
        here = Path(f"/proc/{parent}/cwd").resolve()
    except OSError:  # not Linux
        ps = ["ps", "-ww", "-o", "args=", "-p", str(parent)]
        words = subprocess.run(ps, capture_output=True, text=True, check=False).stdout.split()
        here = Path(os.environ.get("PWD", "/"))
    targets = (re.sub(r"^(--editable=|-e)?(file://)?|\[[^]]*]$", "", word) for word in words)
    return {(here / target).resolve() for target in targets if target}


class CustomMetadataHook(MetadataHookInterface):
    """Fill in the dependencies from ``[tool.hatch.metadata.hooks.custom]`` of pyproject.toml."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set ``dependencies`` and ``optional-dependencies``: by path where this build is live."""
        extras = self.config.get("optional-dependencies", {})
        live = self._live if _in_editable_run() else str
        metadata["dependencies"] = [live(line) for line in self.config.get("dependencies", [])]
        metadata["optional-dependencies"] = {
            extra: [live(line) for line in lines] for extra, lines in extras.items()
        }

    def _live(self, requirement: str) -> str:
        """Turn a sibling's range into the URL of its folder, unless pip was told that folder."""
        match = _SIBLING.fullmatch(requirement)
        if match is None:
            return requirement
        for packages in (Path(self.root).parent, Path(self.root)):  # a package, the meta-package
            folder = (packages / match["name"].replace("-", "_")).resolve()
            if (folder / "pyproject.toml").is_file() and folder not in _asked_for():
                url = f"{match['name']}{match['extras'] or ''} @ {folder.as_uri()}"
                return f"{url} {match['marker']}" if match["marker"] else url
        return requirement
