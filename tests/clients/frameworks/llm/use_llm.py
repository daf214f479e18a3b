"""The llm command: python use_llm.py URL KEY prints what a chat, a stream and tools gave."""

# mypy: ignore-errors

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

url, key, question, about_tools = sys.argv[1:]
WEATHER = '''
def get_weather(city: str) -> str:
    """The weather of a city."""
    return {"Paris": "sun", "Oslo": "rain"}[city]
'''


def llm(home: Path, *words: str) -> str:
    ran = subprocess.run(
        [Path(sys.executable).with_name("llm"), *words],
        env={**os.environ, "LLM_USER_PATH": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        sys.exit(ran.stderr)
    return ran.stdout.strip()


with tempfile.TemporaryDirectory() as folder:
    home = Path(folder)
    rows = [
        {
            "model_id": model,
            "model_name": model,
            "api_base": f"{url}/v1",
            "api_key_name": "proxy",
            "supports_tools": True,
        }
        for model in ("messages", "gemini")
    ]
    (home / "extra-openai-models.yaml").write_text(json.dumps(rows))  # JSON is YAML
    told = {}
    for model in ("messages", "gemini"):
        words = ("--model", model, "--key", key, "--no-log")
        told[f"chat, {model} behind"] = {
            "chat": llm(home, *words, "--no-stream", question),
            "stream": llm(home, *words, question),
            "tools": llm(home, *words, "--functions", WEATHER, about_tools),
        }
    print(json.dumps(told))
