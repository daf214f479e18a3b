"""The ``llm-proxy`` command."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from proxy_api._cli_client import Client, ClientFailure
from proxy_api._version import __version__
from proxy_core.errors import ConfigurationError

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
_HERE = "http://127.0.0.1:4000"


@app.command()
def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML or TOML. Default: $LLM_PROXY_CONFIG, "
            "then /etc/proxy/config.yaml if it is there."
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
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes, under uvicorn's own parent. For production use instances of the unit."
        ),
    ] = None,
) -> None:
    """Serve. Settings: defaults, then the file, then LLM_PROXY_… variables, then these options."""
    from proxy_api._cli_greeting import greet, tell_found
    from proxy_api._serve import Choices, prepare, run_server

    choices = Choices(config, host, port, uds, workers, discover, local_model)
    try:
        prepared = prepare(choices)
    except ConfigurationError as error:
        _fail(error.message)
    if discover:
        tell_found(prepared)
    run_server(prepared, on_ready=lambda: greet(prepared))


@app.command()
def check(config: Annotated[Path, typer.Argument(help="The YAML or TOML file to check.")]) -> None:
    """Check a configuration: every problem at once; the exit status is 1 when there is one."""
    from proxy_api._settings import load_settings

    try:
        settings = load_settings(config)
    except ConfigurationError as error:
        _fail(error.message)
    for sentence in settings.not_in_force():
        typer.echo(f"warning: {sentence}", err=True)
    names = {model.name for model in settings.models}
    typer.echo(
        f"{config}: in order: {len(settings.providers)} providers, "
        f"{len(names)} models, {len(settings.keys)} keys"
    )


@app.command()
def models(url: UrlOption = _HERE, key: KeyOption = None) -> None:
    """List the models of a running proxy."""
    try:
        for name in asyncio.run(Client(url, key).models()):
            typer.echo(name)
    except ClientFailure as error:
        _fail(str(error))


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
        asyncio.run(Chat(Client(url, key), model, system, max_tokens).run(" ".join(prompt or ())))
    except ClientFailure as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"llm-proxy {__version__} (Python {sys.version.split()[0]})")


def main() -> None:
    """The entry point of the console script."""
    app()


def _fail(message: str) -> NoReturn:
    typer.echo(f"llm-proxy: {message}", err=True)
    raise typer.Exit(1)
