"""What ``serve`` says on standard output: what was found, what is served, how to ask it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

if TYPE_CHECKING:
    from proxy_api._prepare import Prepared

__all__ = ["greet", "tell_found"]

_CURL: Final = (
    "curl {base}/v1/chat/completions -H 'content-type: application/json'{auth}"
    """ -d '{{"model": "{model}", "max_tokens": 32,"""
    """ "messages": [{{"role": "user", "content": "Hello"}}]}}'"""
)
_PYTHON: Final = (
    """python -c "import openai; print(openai.OpenAI(base_url='{base}/v1', api_key='{key}')"""
    """.chat.completions.create(model='{model}', max_tokens=32,"""
    """ messages=[dict(role='user', content='Hello')]).choices[0].message.content)\""""
)
_CHAT: Final = "{command} chat --url {base} --model '{model}'{key_option} Hello"
_SHOWN: Final = 8


def tell_found(prepared: Prepared) -> None:
    """The table of what ``--discover`` found."""
    console = Console()
    if prepared.found.found:
        console.print(prepared.found.table())
    else:
        told = "Discovered nothing: no provider key in the environment, no server on a usual port."
        console.print(told, soft_wrap=True)


def greet(prepared: Prepared) -> None:
    """What is served, and three lines to paste."""
    models = prepared.settings.models
    names = [*dict.fromkeys(model.name for model in models if "*" not in model.name)]
    server = prepared.settings.server
    console = Console(markup=False, highlight=False, soft_wrap=True)
    told = ", ".join(names[:_SHOWN]) or "patterns only"
    if server.uds is not None:
        console.print(f"Serving {told} on {server.uds}.")
        return
    host = f"[{server.host}]" if ":" in server.host else server.host
    keys = bool(prepared.settings.keys)
    words = {
        "base": f"{'https' if server.tls else 'http'}://{host}:{server.port}",
        "model": names[0] if names else "MODEL",
        "key": "KEY" if keys else "none",
        "auth": " -H 'authorization: Bearer KEY'" if keys else "",
        "key_option": " --key KEY" if keys else "",
        "command": _command(),
    }
    console.print(f"Serving {told} at {words['base']}. Try:")
    for line in (_CURL, _PYTHON, _CHAT):
        console.print("  " + line.format_map(words))


def _command() -> str:
    """The command as it can be pasted: a path of this folder where it isn't on the PATH."""
    given = Path(sys.argv[0])
    if given.stem == "__main__":
        return "python -m proxy_api"
    try:
        return str(given.absolute().relative_to(Path.cwd()))
    except ValueError:
        return "llm-proxy"
