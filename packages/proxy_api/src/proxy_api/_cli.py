"""The ``llm-proxy`` command."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from proxy_api._cli_admin import (
    DEFAULT_SOCKET,
    AdminFailure,
    ask_reload,
    ask_status,
    told_status,
)
from proxy_api._cli_client import Client, ClientFailure
from proxy_api._version import __version__
from proxy_core.errors import ConfigurationError
from proxy_logging import stderr_is_journal

if TYPE_CHECKING:
    from proxy_api._prepare import Choices

__all__ = ["app", "main"]

app = typer.Typer(
    name="llm-proxy",
    help="A gateway to large language models: one URL in front, any provider behind.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

UrlOption = Annotated[
    str, typer.Option("--url", envvar="LLM_PROXY_URL", help="Where the proxy listens, without /v1.")
]
KeyOption = Annotated[
    str | None,
    typer.Option("--key", envvar="LLM_PROXY_KEY", help="A key of the proxy; without keys, none."),
]
SocketOption = Annotated[
    Path,
    typer.Option("--socket", envvar="LLM_PROXY_ADMIN_SOCKET", help="The proxy's admin socket."),
]
_HERE = "http://127.0.0.1:4000"
_EX_CONFIG = 78
"""sysexits.h: starting it again is no remedy, and the unit doesn't try."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llm-proxy {__version__} (Python {sys.version.split()[0]})")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """A gateway to large language models: one URL in front, any provider behind."""


@app.command()
def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            readable=False,  # said better by who reads it
            help="YAML or TOML. Default: $LLM_PROXY_CONFIG, "
            "then /etc/proxy/config.yaml if it is there.",
        ),
    ] = None,
    discover: Annotated[
        bool,
        typer.Option(
            "--discover", help="Use provider keys in the environment and local servers that answer."
        ),
    ] = False,
    local_model: Annotated[
        bool,
        typer.Option("--local-model", help="Run a small real model (smollm2) in a child process."),
    ] = False,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. Default: 4000.")] = None,
    uds: Annotated[
        str | None, typer.Option(help="Unix socket to listen on, instead of a port.")
    ] = None,
    reuse_port: Annotated[
        bool,
        typer.Option(
            "--reuse-port",
            help="Share the port with other processes of this user, as instances of the unit do.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes, under uvicorn's own parent. For production use instances of the unit."
        ),
    ] = None,
) -> None:
    """Serve. Settings: defaults, then the file, then LLM_PROXY_… variables, then these options.

    SIGHUP reads them again, SIGTERM drains, a second one ends at once. Exit status: 78 for what
    can't be used, 1 for an address that can't be listened on.
    """
    _obey_early_signals()
    # What is imported and read for this stays: looking for garbage in it is a tenth of the start.
    gc.disable()
    try:
        from proxy_api._prepare import Choices

        _serve(Choices(config, host, port, uds, workers, reuse_port, discover, local_model))
    finally:
        gc.enable()


def _serve(choices: Choices) -> None:
    from proxy_api._cli_greeting import greet, tell_found
    from proxy_api._listener import CannotListen
    from proxy_api._prepare import prepare
    from proxy_api._serve import run_server

    try:
        prepared = prepare(choices)
        if choices.discover:
            tell_found(prepared)
        run_server(prepared, on_ready=lambda: greet(prepared))
    except ConfigurationError as error:
        _fail(error.message, 1 if isinstance(error, CannotListen) else _EX_CONFIG)


@app.command()
def check(
    config: Annotated[Path, typer.Argument(readable=False, help="The YAML or TOML file to check.")],
) -> None:
    """Check a configuration: every problem at once; the exit status is 1 when there is one."""
    from proxy_api._compose import try_out
    from proxy_api._plugins import load_plugins
    from proxy_api._settings import load_settings

    try:
        settings = load_settings(config)
        try_out(settings)
    except ConfigurationError as error:
        _fail(error.message)
    for sentence in settings.not_in_force():
        typer.echo(f"warning: {sentence}", err=True)
    names = {model.name for model in settings.models}
    if not names:
        typer.echo("warning: no models: there is nothing to serve", err=True)
    counts = {"provider": len(settings.providers), "model": len(names), "key": len(settings.keys)}
    told = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for word, count in counts.items())
    typer.echo(f"{config}: in order: {told}")
    for summary in load_plugins(settings.plugins).summaries:
        typer.echo(f"plugin {summary}")


@app.command()
def models(url: UrlOption = _HERE, key: KeyOption = None) -> None:
    """List the models of a running proxy."""
    try:
        names = asyncio.run(Client(url, key).models())
    except ClientFailure as error:
        _fail(str(error))
    with _readers_may_leave():
        for name in names:
            typer.echo(name)


@app.command()
def chat(
    prompt: Annotated[
        list[str] | None, typer.Argument(help="What to say. Without it: a conversation.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model; default: the first one there is.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The most tokens of an answer.")] = None,
    url: UrlOption = _HERE,
    key: KeyOption = None,
) -> None:
    """Talk to a model of a running proxy; the answer streams. For trying it out."""
    from proxy_api._cli_chat import Chat

    try:
        with _readers_may_leave():
            Chat(Client(url, key), model, system, max_tokens).run(" ".join(prompt or ()))
    except ClientFailure as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def version() -> None:
    """Print the version."""
    _print_version(True)


@app.command()
def status(
    path: SocketOption = DEFAULT_SOCKET,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, for programs.")] = False,
) -> None:
    """Tell how a running proxy is: requests in flight, deployments, the last reload."""
    try:
        told = ask_status(path)
    except AdminFailure as error:
        _fail(str(error))
    with _readers_may_leave():
        for line in [json.dumps(told)] if as_json else told_status(told):
            typer.echo(line)


@app.command()
def explain(
    model: Annotated[str, typer.Argument(help="The model that a client asks for.")],
    key: Annotated[str | None, typer.Option(help="The name of the client's key.")] = None,
    tokens: Annotated[int, typer.Option(min=0, help="How many the prompt has.")] = 0,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A header that it sends.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag, beside those of the key.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(readable=False, help="Explain this file; no running proxy is asked."),
    ] = None,
    path: SocketOption = DEFAULT_SOCKET,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, for programs.")] = False,
) -> None:
    """Say where a request would go and why. Without a running proxy: by its configuration."""
    from proxy_api._cli_explain import Asking, explanation, told_explanation

    try:
        told = explanation(path, config, Asking(model, key, tokens, header or (), tag or ()))
    except AdminFailure as error:
        _fail(str(error))
    with _readers_may_leave():
        for line in [json.dumps(told)] if as_json else told_explanation(told):
            typer.echo(line)


@app.command()
def reload(path: SocketOption = DEFAULT_SOCKET) -> None:
    """Let a running proxy load its configuration again; exits with 1 when it is refused."""
    try:
        with _readers_may_leave():
            for line in ask_reload(path):
                typer.echo(line)
    except AdminFailure as error:
        _fail(str(error))


def main() -> None:
    """The entry point of the console script."""
    app()


def _obey_early_signals() -> None:
    """Until the server obeys them: a hang-up is nothing yet, and a stop is a clean end."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


@contextmanager
def _readers_may_leave() -> Iterator[None]:
    """Whoever reads our output (``head``) may have enough of it: that is the end, not an error."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int = 1) -> NoReturn:
    told = f"llm-proxy: {message}"
    if stderr_is_journal():
        # sd-daemon(3): the priority of an error.
        told = "\n".join(f"<3>{line}" for line in told.splitlines())
    typer.echo(told, err=True)
    raise typer.Exit(status)
