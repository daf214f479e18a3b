"""Aider: python use_aider.py URL KEY prints what each of its ways gave; it calls no tools."""

# mypy: ignore-errors

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

url, key, question, _ = sys.argv[1:]
NAMES = {"chat, messages behind": "openai/messages", "messages, chat behind": "anthropic/chat"}
QUIET = (
    *("--no-git", "--no-pretty", "--no-check-update", "--no-show-model-warnings", "--yes-always"),
    *("--no-show-release-notes", "--no-analytics", "--no-auto-lint", "--no-suggest-shell-commands"),
    *("--edit-format", "ask", "--no-detect-urls", "--map-tokens", "0", "--no-gitignore"),
)


def aider(folder: str, model: str, *words: str) -> str:
    ran = subprocess.run(
        [
            *(Path(sys.executable).with_name("aider"), "--model", model, *QUIET),
            *(*words, "--message", question),
        ],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "OPENAI_API_BASE": f"{url}/v1",
            "OPENAI_API_KEY": key,
            "ANTHROPIC_API_BASE": url,
            "ANTHROPIC_API_KEY": key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        sys.exit(f"{ran.stdout}\n{ran.stderr}")
    (told,) = [line for line in ran.stdout.splitlines() if line.startswith("one ")] or [ran.stdout]
    return told


with tempfile.TemporaryDirectory() as folder:
    print(
        json.dumps(
            {
                way: {
                    "chat": aider(folder, model, "--no-stream"),
                    "stream": aider(folder, model, "--stream"),
                }
                for way, model in NAMES.items()
            }
        )
    )
