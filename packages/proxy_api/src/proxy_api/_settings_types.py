"""The values that settings are made of: durations, sizes, rates, names, addresses."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr
from pydantic import WithJsonSchema as Schema

from proxy_api._units import parse_duration, parse_size
from proxy_api._urls import check_base_url, is_url
from proxy_core import Limit
from proxy_core.errors import ConfigurationError

__all__ = [
    "BaseUrl",
    "Duration",
    "ListenAddress",
    "ModelName",
    "Network",
    "Origin",
    "Printable",
    "ProviderName",
    "ProxyUrl",
    "Rate",
    "Section",
    "Size",
    "StoreUrl",
    "Target",
    "database_url",
    "redis_url",
]


class Section(BaseModel):
    """A part of the configuration: frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be longer than nothing")
    return seconds


_RATE_FORMS = "a limit is text such as 60/minute, 1000/hour or 5/10s"


def _rate(value: Any) -> str:
    if isinstance(value, str) and _is_rate(value):
        return value.strip()
    raise ValueError(_RATE_FORMS)


@functools.lru_cache(maxsize=512)
def _is_rate(text: str) -> bool:
    """Kept, because thousands of keys have a few limits between them."""
    try:
        Limit.parse(text)
    except ConfigurationError:
        return False
    return True


def _provider_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError("a provider's name has letters, digits and . _ - only")
    return name


def _model_name(name: str) -> str:
    if not name or name != name.strip() or not name.isprintable():
        raise ValueError("a model's name is printable text without spaces around it")
    if name.count("*") > 1:
        raise ValueError("one * at most")
    return name


def _target(target: str) -> str:
    provider, slash, model = target.partition("/")
    if not provider or not slash or not model or not target.isprintable() or " " in target:
        raise ValueError("must be provider/model, such as openai/gpt-5-mini")
    if "*" in provider or model.count("*") > 1:
        raise ValueError("one * at most, in the model's part of provider/model")
    return target


def _printable(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError("must be printable ASCII text, not empty, without spaces around it")
    return secret


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        message = "must be an address or a network, such as 10.0.0.1 or 10.0.0.0/8"
    raise ValueError(message)


def _origin(text: str) -> str:
    if text != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[a-z0-9._\[\]:-]+", text):
        raise ValueError(
            "must be an origin as browsers send it, in lower case and without a path, such as "
            "https://app.example.com"
        )
    return text


def _listen(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be host:port, such as 127.0.0.1:9464")
    return text


def _secret_url(schemes: tuple[str, ...], example: str) -> Callable[[SecretStr], SecretStr]:
    local = tuple(f"{scheme}://" for scheme in schemes if scheme in ("unix", "sqlite"))

    def check(secret: SecretStr) -> SecretStr:
        url = secret.get_secret_value()
        # Sentinel and Cluster may have several hosts, with commas between them: each is looked at.
        scheme, _, rest = url.partition("://")
        hosts, slash, path = rest.partition("/")
        user, at, hosts = hosts.rpartition("@")
        each = [f"{scheme}://{user}{at}{host}{slash}{path}" for host in hosts.split(",")]
        if not all(is_url(one, schemes) for one in each) and not (local and url.startswith(local)):
            shown = ", ".join(f"{scheme}://" for scheme in schemes)
            raise ValueError(f"must be a URL that begins with one of {shown}: {example}")
        return secret

    return check


def _proxy_url(secret: SecretStr) -> SecretStr:
    if not is_url(secret.get_secret_value(), ("http", "https", "socks5", "socks5h")):
        raise ValueError("must be a URL such as http://proxy.example.com:3128")
    return secret


_DURATION_SCHEMA: Mapping[str, Any] = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {
            "type": "string",
            "pattern": r"^\s*(([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+|[0-9]+(\.[0-9]+)?)\s*$",
        },
    ],
    "examples": ["250ms", "30s", "5m", "1h", 300],
}
_SIZE_SCHEMA: Mapping[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgG][iI]?)?[bB]?\s*$"},
    ],
    "examples": ["512KB", "32MB", "64MiB"],
}
_RATE_SCHEMA: Mapping[str, Any] = {
    "type": "string",
    "pattern": r"^\s*[0-9][0-9_]*\s*/\s*[0-9]*\s*[A-Za-z]+\s*$",
    "examples": ["60/minute", "100000/minute"],
}


def _some(size: int) -> int:
    if size < 1:
        raise ValueError("must be at least a byte")
    return size


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    AfterValidator(_positive),
    Schema(dict(_DURATION_SCHEMA)),
]
"""Seconds, longer than nothing."""
Size = Annotated[
    int, BeforeValidator(parse_size), AfterValidator(_some), Schema(dict(_SIZE_SCHEMA))
]
"""Bytes."""
Rate = Annotated[str, BeforeValidator(_rate), Schema(dict(_RATE_SCHEMA))]
"""``60/minute``, as it was written: ``proxy_core.Limit.parse`` reads it."""
ProviderName = Annotated[str, AfterValidator(_provider_name)]
ModelName = Annotated[str, AfterValidator(_model_name)]
"""A name that clients ask for; one ``*`` stands for anything."""
Target = Annotated[str, AfterValidator(_target)]
"""``provider/model``; the model's part may have slashes and one ``*``."""
BaseUrl = Annotated[str, AfterValidator(check_base_url)]
Printable = Annotated[SecretStr, AfterValidator(_printable)]
"""A secret that fits into a header."""
ProxyUrl = Annotated[SecretStr, AfterValidator(_proxy_url)]
StoreUrl = SecretStr
"""A store's address: secret, because it may hold a password."""
Network = Annotated[str, AfterValidator(_network)]
Origin = Annotated[str, AfterValidator(_origin)]
"""``scheme://host[:port]``, or ``*`` for any."""
ListenAddress = Annotated[str, AfterValidator(_listen)]

redis_url = _secret_url(
    ("redis", "rediss", "redis+sentinel", "redis+cluster", "unix"),
    "redis://127.0.0.1:6379/0",
)
database_url = _secret_url(("sqlite", "postgresql"), "postgresql://user@host/name")
