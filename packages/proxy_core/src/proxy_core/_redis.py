"""A client of Redis or Valkey from a URL: one server, those behind Sentinel, a Cluster.

redis-py, the extra ``redis``, is imported when a client is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from proxy_core.errors import ConfigurationError

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

__all__ = ["is_cluster", "open_redis"]


def is_cluster(url: str) -> bool:
    return urlsplit(url).scheme.endswith("+cluster")


def open_redis(url: str) -> tuple[Redis | RedisCluster, Sequence[Redis]]:
    """The client, and those of the sentinels that lead it; all are the caller's to close.

    It tries nothing twice, and connects at the first command. Raises ConfigurationError for a URL
    that can't be used, and without redis-py.
    """
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError as error:
        raise ConfigurationError(
            "what processes share needs redis-py: pip install 'proxy-core[redis]'", param="redis"
        ) from error
    scheme = urlsplit(url).scheme
    options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "decode_responses": False}
    if scheme in ("redis", "rediss", "unix"):
        return Redis.from_url(url, **options), ()
    if scheme.endswith("+sentinel"):
        return _by_sentinel(url, options)
    if is_cluster(url):
        return _cluster(url, options), ()
    raise ConfigurationError(
        f"{scheme}:// is no Redis: give redis://, rediss://, unix://, "
        "redis+sentinel://host:port/service or redis+cluster://host:port",
        param="redis",
    )


def _parts(url: str, port: int) -> tuple[list[tuple[str, int]], dict[str, Any], list[str]]:
    """Addresses, what a server asks for (name, password, TLS), and the segments of the path."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    name, _, password = login.partition(":")
    addresses = []
    for host in hosts.split(","):
        address = urlsplit(f"//{host}")
        addresses.append((address.hostname or "localhost", address.port or port))
    options: dict[str, Any] = {}
    if name:
        options["username"] = unquote(name)
    if password:
        options["password"] = unquote(password)
    if parts.scheme.startswith("rediss"):
        options["ssl"] = True
    return addresses, options, [part for part in parts.path.split("/") if part]


def _by_sentinel(url: str, options: dict[str, Any]) -> tuple[Redis, Sequence[Redis]]:
    from redis.asyncio.sentinel import Sentinel

    addresses, login, path = _parts(url, 26379)
    if not path:
        raise ConfigurationError(
            "redis+sentinel:// needs the service's name: redis+sentinel://host:26379/mymaster",
            param="redis",
        )
    known = parse_qs(urlsplit(url).query)
    theirs = {"password": known["sentinel_password"][0]} if "sentinel_password" in known else {}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        addresses, sentinel_kwargs={**theirs, "socket_timeout": 0.5}
    )
    master: Redis = sentinel.master_for(path[0], db=int([*path, "0"][1]), **login, **options)
    return master, sentinel.sentinels


def _cluster(url: str, options: dict[str, Any]) -> RedisCluster:
    from redis.asyncio import RedisCluster
    from redis.asyncio.cluster import ClusterNode

    addresses, login, _ = _parts(url, 6379)
    nodes = [ClusterNode(host, port) for host, port in addresses]
    return RedisCluster(startup_nodes=nodes, **login, **options)
