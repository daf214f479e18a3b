"""What the repository's README shows works: the SDK's lines, the configuration, the links."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path

from proxy_api import load_settings
from proxy_api.testing import settings_for

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

SECRETS = {"OPENAI_API_KEY": "sk-x", "ANTHROPIC_API_KEY": "sk-ant-x", "CI_KEY": "ci-key"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_sdks_lines_stream_an_answer(llama: str, gateway: Callable[..., str]) -> None:
    """The block with the SDK, pointed at a gateway with the real model, prints an answer."""
    url = gateway(settings_for(llama, model="smollm2"))
    block = next(block for block in blocks("python") if "import openai" in block)
    assert "http://127.0.0.1:4000" in block
    told = io.StringIO()
    namespace: dict[str, object] = {}
    with contextlib.redirect_stdout(told):
        exec(block.replace("http://127.0.0.1:4000", url), namespace)
    namespace["client"].close()  # type: ignore[attr-defined]
    assert told.getvalue().strip()


def test_the_configuration_is_in_order(tmp_path: Path) -> None:
    """The YAML of the README is a configuration without a problem and without a dead setting."""
    file = tmp_path / "config.yaml"
    file.write_text(blocks("yaml")[0])
    settings = load_settings(file, environ=SECRETS)
    assert [model.name for model in settings.models] == ["chat", "chat", "gpt-*", "claude-*"]
    assert settings.not_in_force() == ()


def test_every_file_that_it_names_is_there() -> None:
    """Links and commands name files of the repository."""
    links = re.findall(r"\]\(([^)]+)\)", README)
    commands = re.findall(r"^(scripts/\w+)", README, re.MULTILINE)
    assert len(links) >= 5
    assert [name for name in links + commands if not (ROOT / name).exists()] == []
