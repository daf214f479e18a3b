"""Which addresses and hosts no upstream may have."""

from __future__ import annotations

import pytest

from proxy_core import is_forbidden, is_forbidden_host

FORBIDDEN = [
    "169.254.169.254",
    "169.254.0.23",
    "fe80::1",
    "fe80::a9fe:a9fe%eth0",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "0.0.0.0",
    "::",
    "::ffff:169.254.169.254",
    "::ffff:0:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "::ffff:0.0.0.0",
]
FORBIDDEN_HOSTS = [
    *FORBIDDEN,
    "[fe80::1]",
    "169.254.169.254.",
    "2852039166",
    "0xa9fea9fe",
    "0xa9.254.43518",
    "0251.0376.0251.0376",
    "169.16689662",
    "0",
    "metadata",
    "Metadata.Google.Internal",
    "metadata.google.internal.",
    "metadata.goog",
    "metadata.tencentyun.com",
    "instance-data",
    "instance-data.ec2.internal",
]
ALLOWED = ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "fd12::1", "8.8.8.8", "2001:db8::1"]
ALLOWED_HOSTS = [
    *ALLOWED,
    "localhost",
    "api.openai.com",
    "2130706433",
    "metadata.example.com",
    "1and1",
    "",
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_link_local_and_metadata_addresses_are_forbidden(address: str) -> None:
    """Each cloud's, and IPv4 ones inside of IPv6."""
    assert is_forbidden(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_private_addresses_are_allowed(address: str) -> None:
    """An operator's upstream may be anywhere else."""
    assert not is_forbidden(address)


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
def test_hosts_are_forbidden_in_any_spelling(host: str) -> None:
    """Whole numbers, hexadecimal, octal, brackets, dots at the end, and the known names."""
    assert is_forbidden_host(host)


@pytest.mark.parametrize("host", ALLOWED_HOSTS)
def test_other_hosts_are_not_judged_by_their_text(host: str) -> None:
    """A name is judged when it is resolved."""
    assert not is_forbidden_host(host)
