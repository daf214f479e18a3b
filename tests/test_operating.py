"""What docs/operating.md names is there, and what it quotes is said.

tests/systemd/test_page.py follows it in a booted box.
"""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from proxy_api import load_settings
from proxy_api._cli import app
from proxy_api._schema import config_schema
from proxy_api._serve import _REFUSED
from proxy_api._server import _PAUSE
from proxy_api._settings_diff import _FIXED
from proxy_api._settings_routing import RoutingSettings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/operating.md"
TEXT = PAGE.read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.DOTALL | re.MULTILINE)
INLINE = re.findall(r"`([^`]+)`", PROSE.replace("\n", " "))
UNITS = {path.name: path.read_text() for path in (ROOT / "systemd").glob("llm-proxy*")}
UNIT = r"llm-proxy@?[\w{},*-]*\.(?:service|socket|target|slice)"
SCHEMA = config_schema()
OPERATORS_OWN = re.compile(r"/etc/proxy/(openai\.(cred|key)|tls)")
"""Files that the page lets its reader make."""
WARNED_OF = {"Environment"}
"""Settings of units that the page names only to say why not."""


def blocks(language: str) -> list[str]:
    return [code for kind, code in BLOCKS if kind == language]


def slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def simple_commands(line: str) -> Iterator[list[str]]:
    """Split a line of shell at its pipes and lists; without sudo and env."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, "|"]:
        if word in ("|", "&&", ";"):
            while words and (words[0] in ("sudo", "env") or "=" in words[0]):
                words.pop(0)
            yield words
            words = []
        else:
            words.append(word)


def commands() -> list[list[str]]:
    """Every command of the page's blocks, and of what looks like one in its prose."""
    lines = [
        line
        for block in blocks("sh")
        for line in re.sub(r"(\\|(?<=\|))\n", " ", block).splitlines()
        if line and not line.startswith("#!")
    ]
    lines += [
        code for code in INLINE if re.match(r"(sudo |llm-proxy [a-z]|scripts/|systemctl )", code)
    ]
    return [words for line in lines for words in simple_commands(line) if words]


COMMANDS = commands()
OURS = [
    words[words.index("llm-proxy") + 1 :]
    for words in COMMANDS
    if words[0] == "llm-proxy" or (words[0] == "systemd-run" and "llm-proxy" in words)
]
SCRIPTS = [words for words in COMMANDS if words[0].startswith("scripts/")]


def test_the_page_was_read() -> None:
    """What the tests below look at is there in numbers."""
    assert {kind for kind, _ in BLOCKS} == {"sh", "yaml", "ini", "text"}
    assert len(OURS) >= 12
    assert {words[0] for words in OURS} == {"chat", "check", "explain", "reload", "serve", "status"}
    assert {words[0] for words in SCRIPTS} == {"scripts/install", "scripts/rolling-restart"}
    assert list(simple_commands("sudo env X=y a -b | c 'd | e' && f # g")) == [
        ["a", "-b"],
        ["c", "d | e"],
        ["f"],
    ]


def test_links_lead_somewhere() -> None:
    """Relative links name files, and headings of them."""
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", TEXT)
    assert len(links) > 20
    for name, anchor in links:
        target = (PAGE.parent / name) if name else PAGE
        assert target.exists(), name
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), f"{name}#{anchor}"


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_the_command_understands_it(words: list[str]) -> None:
    """Each `llm-proxy …` names a command and options that there are, with values that fit."""
    command: Any = typer.main.get_command(app)
    command.commands[words[0]].make_context(words[0], words[1:])


def test_a_wrong_command_line_is_noticed() -> None:
    """The check above would see an option that isn't there."""
    with pytest.raises(Exception, match="No such option: --sockt"):
        test_the_command_understands_it(["status", "--sockt", "x"])


@pytest.mark.parametrize("script", sorted({words[0] for words in SCRIPTS}))
def test_the_script_has_the_option(script: str) -> None:
    """Each option of a script stands in its help."""
    done = subprocess.run([ROOT / script, "--help"], capture_output=True, text=True, check=True)
    for words in SCRIPTS:
        if words[0] == script:
            options = {word for word in words[1:] if word.startswith("--")}
            assert options <= {*re.findall(r"--[\w-]+", done.stdout), "--help"}


def test_options_alone_are_somebodys() -> None:
    """An option that stands alone in the text is one of `scripts/install` or `llm-proxy serve`."""
    install = (ROOT / "scripts/install").read_text()
    command: Any = typer.main.get_command(app)
    known = {opt for param in command.commands["serve"].params for opt in param.opts}
    known.update(re.findall(r"^#     (--[\w-]+)", install, re.MULTILINE))
    alone = {code.split()[0] for code in INLINE if code.startswith("--")}
    assert len(alone) >= 6
    assert alone <= known


def unit_file(name: str) -> str:
    """``llm-proxy@{a,b}`` and ``llm-proxy@a.service`` are ``llm-proxy@.service``."""
    stem, dot, kind = name.partition(".")
    return f"{re.sub('@.*', '@', stem)}.{kind if dot else 'service'}"


def test_units_are_there() -> None:
    """Every unit of the text, and every one that systemctl and journalctl are asked for."""
    named = set(re.findall(UNIT, TEXT))
    for words in COMMANDS:
        if words[0] in ("systemctl", "journalctl"):
            named.update(
                w for w in words if w.startswith("llm-proxy") and words[words.index(w) - 1] != "-t"
            )
    assert len(named) >= 8
    assert {unit_file(name) for name in named} <= set(UNITS)


def test_settings_of_units_are_those_of_ours() -> None:
    """A setting of a drop-in or of the text stands in a unit, and with its value if it has one."""
    units = "\n".join(UNITS.values())
    known = set(re.findall(r"\b([A-Z]\w+)=", units)) | WARNED_OF
    drop_ins = [line for block in blocks("ini") for line in block.splitlines() if "=" in line]
    named = [code for code in INLINE if re.match(r"[A-Z][a-z]\w+=", code)]
    assert len(drop_ins) >= 5
    assert {line.partition("=")[0] for line in drop_ins + named} <= known
    assert [code for code in named if not code.endswith("=") and code not in units] == []
    assert {block.splitlines()[0] for block in blocks("ini")} == {"[Service]", "[Socket]"}


def test_paths_are_those_of_the_installation() -> None:
    """Every path of ours is one that scripts/install, a unit or the command knows."""
    install = (ROOT / "scripts/install").read_text()
    cli = (ROOT / "packages/proxy_api/src/proxy_api/_cli_admin.py").read_text()
    for name, value in re.findall(r"\b(opt|lib|releases|etc)=(\S+)", install):
        install = install.replace(f"${name}", value)
    install = install.replace("$root", "")
    known = "\n".join([cli, *UNITS.values(), *(install.replace("$unit", unit) for unit in UNITS)])
    paths = re.findall(
        r"(?<![\w.])/(?:etc/proxy|opt/llm-proxy|usr/local|var/lib/llm-proxy|run/llm-proxy)[\w./@-]*",
        TEXT,
    )
    plain = {
        re.sub(r"/VERSION$|\.$", "", path).replace("/run/llm-proxy/a/", "/run/llm-proxy/")
        for path in paths
        if not OPERATORS_OWN.match(path)
    }
    assert len(plain) >= 12
    assert [
        path
        for path in sorted(plain)
        if path not in known and path.removesuffix("/openai") not in known
    ] == []


def resolve(node: Any, path: list[str]) -> bool:
    """Whether a configuration may have something at this path."""
    if "$ref" in node:
        return resolve(SCHEMA["$defs"][node["$ref"].rpartition("/")[2]], path)
    if "anyOf" in node:
        return any(resolve(each, path) for each in node["anyOf"])
    if not path:
        return True
    below = node.get("properties", {}).get(path[0]) or node.get("additionalProperties")
    return isinstance(below, dict) and resolve(below, path[1:])


def settings_in(text: str) -> list[str]:
    """The settings that a text names: dotted paths from a section, or a section alone."""
    dotted = re.findall(r"`(\w+(?:\.\w+)*)`", text)
    return [path for path in dotted if path.split(".")[0] in SCHEMA["properties"]]


def test_settings_are_in_the_schema() -> None:
    """Every setting of the text, and every LLM_PROXY_… variable, is one of the configuration."""
    named = settings_in(PROSE)
    variables = re.findall(r"LLM_PROXY_([A-Z_]+[A-Z])", TEXT)
    assert "server.drain" in named
    assert variables
    named += [variable.lower().replace("__", ".") for variable in variables]
    assert [path for path in named if not resolve(SCHEMA, path.split("."))] == []
    assert not resolve(SCHEMA, ["server", "drian"])


def test_what_needs_a_restart_is_what_the_code_says() -> None:
    """The table's right column is the code's list; the left one has none of it."""
    rows = re.search(r"^\| takes effect at a reload .*?\n\n", TEXT, re.DOTALL | re.MULTILINE)
    assert rows is not None
    cells = [line.strip("|").split("|") for line in rows[0].strip().splitlines()[2:]]
    fixed = {f"{section}.{name}".lstrip(".") for section, names in _FIXED.items() for name in names}
    assert set(settings_in(" ".join(right for _, right in cells))) == fixed | {"server.tls"}
    live = set(settings_in(" ".join(left for left, _ in cells)))
    assert not live & fixed
    assert {path.partition(".")[0] for path in live} >= {"providers", "models", "keys", "server"}


def test_names_of_events_and_metrics_are_those_of_the_code() -> None:
    """What one is told to look for in logs and metrics is written there."""
    code = "".join(path.read_text() for path in ROOT.glob("packages/*/src/**/*.py"))
    events = {
        *re.findall(r"EVENT=(\w+)", TEXT),
        *re.findall(r"event `(\w+)`", PROSE.replace("\n", " ")),
    }
    assert events == {"config_reloaded", "credential_quarantined", "request"}
    codes = re.findall(r"the code `(\w+)`", PROSE.replace("\n", " "))
    assert len(codes) >= 3
    metrics = [
        name.removeprefix("llm_proxy_").removesuffix("_total")
        for name in re.findall(r"llm_proxy_\w+", TEXT)
    ]
    assert "cost_usd" in metrics
    for name in {*events, *codes, *metrics, "gateway_shutdown", "cost_usd"}:
        assert re.search(rf'"(llm_proxy_)?{name}"', code) or f"{name}:" in code, name
    for header in re.findall(r"`(x-llm-proxy-[a-z]+)`", PROSE):
        assert f'b"{header}"' in code, header


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for a configuration, with the credentials and certificates that the page names."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    for name in re.findall(r"credential:([\w.-]+)", "".join(blocks("yaml"))):
        (folder / name).write_text(f"the-secret-of-{name}\n")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
    files = f"-keyout {tmp_path}/privkey.pem -out {tmp_path}/fullchain.pem"
    openssl = ["openssl", *words.split(), *files.split()]
    subprocess.run(openssl, capture_output=True, check=True)
    (folder / "corp-ca.pem").write_text((tmp_path / "fullchain.pem").read_text())
    return tmp_path


def ask(place: Path, config: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `llm-proxy` on this configuration; it is at the usual path, as far as it tells."""
    file = place / "config.yaml"
    file.write_text(config.replace("/etc/proxy/tls/", f"{place}/"))
    command = [sys.executable, "-m", "proxy_api", *(str(file) if w == "FILE" else w for w in words)]
    env = {"CREDENTIALS_DIRECTORY": str(place / "credentials")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    done.stdout = done.stdout.replace(str(file), "/etc/proxy/config.yaml")
    done.stderr = done.stderr.replace(str(file), "/etc/proxy/config.yaml")
    return done


@pytest.mark.parametrize("config", blocks("yaml"))
def test_configurations_are_in_order(place: Path, config: str) -> None:
    """Each YAML block passes `llm-proxy check`, and all of it is in force."""
    assert len(blocks("yaml")) >= 12
    done = ask(place, config, "check", "FILE")
    assert done.returncode == 0, done.stderr
    assert "not in force" not in done.stderr


def test_what_check_says_is_quoted(place: Path) -> None:
    """The line below the command is the one for the longer of the configurations."""
    config = next(block for block in blocks("yaml") if "prometheus" in block)
    assert ask(place, config, "check", "FILE").stdout in blocks("text")


def rows_of(heading: str) -> list[str]:
    """What the first cells of the table below a heading name."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [row for row in section.splitlines() if row.startswith("|")]
    cells = [row.split("|")[1] for row in rows[2:]]
    return [code for cell in cells for code in re.findall(r"`([^`]+)`", cell)]


def test_strategies_and_faults_are_all_told() -> None:
    """The tables name each strategy and each fault that the configuration takes, and no other."""
    strategies = {name for name in rows_of("Routing") if "_" in name or name.isalpha()}
    assert strategies == set(get_args(RoutingSettings.model_fields["strategy"].annotation))
    chaos = SCHEMA["$defs"]["KeyChaosSettings"]["properties"]
    faults = set(chaos) - {"retry_after", "stall", "pause", "seed"}
    assert sorted(rows_of("Testing your client with chaos")) == sorted(faults)


def test_the_urls_of_redis_are_taken(place: Path) -> None:
    """Each form of the table passes `llm-proxy check`; one that isn't there doesn't."""
    urls = rows_of("Limits of several processes")
    assert len(urls) == 4
    for url in urls:
        done = ask(place, f'redis: "{url}"\n{LEAST}', "check", "FILE")
        assert done.returncode == 0, done.stderr
    assert ask(place, f"redis: amqp://127.0.0.1\n{LEAST}", "check", "FILE").returncode == 1


def test_the_defaults_of_a_full_proxy_are_told() -> None:
    """The block of the section holds the defaults, as it says."""
    block = next(block for block in blocks("yaml") if "loop_lag" in block)
    edge = SCHEMA["$defs"]["EdgeSettings"]["properties"]
    assert f"requests: {edge['requests']['default']}" in block
    assert f"loop_lag: {edge['loop_lag']['default']:g}s" in block


def test_the_refusal_of_limits_is_quoted(place: Path) -> None:
    """Instances don't start with limits, with the exit status and the words of the page."""
    config = next(block for block in blocks("yaml") if "limits" in block)
    done = ask(place, config, "serve", "--config", "FILE", "--reuse-port")
    assert done.returncode == 78
    assert done.stderr in blocks("text")


LEAST = """
providers: {a: {kind: openai, api_key: "credential:openai"}}
models: [{name: a, target: a/a}]
"""


def quoted_in_the_table(said: str) -> bool:
    """Whether a row of the last table quotes a part of what was said."""
    table = TEXT.partition("## When it does not start")[2].partition("\n## ")[0]
    cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("|")]
    quotes = [code for cell in cells for code in re.findall(r"`([^`]+)`", cell) if " " in code]
    assert len(quotes) >= 4
    return any(quote in said for quote in quotes)


def test_why_it_does_not_start_is_quoted(place: Path) -> None:
    """No credential, an open address, a taken port: the log has the words of the page."""
    serve = ("serve", "--config", "FILE")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = ask(place, LEAST, *serve, "--port", port)
    assert done.returncode == 1
    assert quoted_in_the_table(done.stderr.replace(port, "4000")), done.stderr
    done = ask(place, LEAST + "server: {host: 0.0.0.0}", *serve)
    assert done.returncode == 78
    assert quoted_in_the_table(done.stderr), done.stderr
    (place / "credentials/openai").unlink()
    done = ask(place, LEAST, *serve)
    assert done.returncode == 78
    assert quoted_in_the_table(done.stderr), done.stderr


def test_figures_are_those_of_code_and_units(place: Path) -> None:
    """Pause, drain, watchdog, restart and memory are what the page says."""
    (place / "config.yaml").write_text("version: 1\n")
    drain = load_settings(place / "config.yaml", environ={}).server.drain
    service, joined = UNITS["llm-proxy.service"], TEXT.replace("\n", " ")
    found = {
        rf"For {_PAUSE:g} s all is served": True,
        rf"`server.drain` ({drain:g} s)": True,
        "silent for 15 s": "WatchdogSec=15\n" in service,
        "within 200 ms": "RestartSec=200ms\n" in service and "StartLimitIntervalSec=0\n" in service,
        "80 % of the memory": "MemoryMax=80%\n" in UNITS["llm-proxy.slice"],
        f"serving; 0 requests in flight{_REFUSED}": True,
    }
    assert [words for words, holds in found.items() if not (holds and words in joined)] == []
