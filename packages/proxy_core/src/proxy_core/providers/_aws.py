"""Requests to Bedrock with a proof of who asks: a signature of AWS (SigV4), or Bedrock's API key.

The extra ``bedrock`` brings botocore, which signs and finds credentials.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from typing import TYPE_CHECKING, Any, Final

from proxy_core._secret import Secret
from proxy_core._types import Headers
from proxy_core.errors import ConfigurationError, UpstreamRefusedCredential

if TYPE_CHECKING:
    from botocore.credentials import (  # type: ignore[import-untyped]
        Credentials,
        ReadOnlyCredentials,
    )

__all__ = ["AwsSigner"]

_REGION: Final = re.compile(r"[a-z0-9-]{1,32}")
_BEARER: Final = "AWS_BEARER_TOKEN_BEDROCK"
_SIGNED: Final = frozenset({b"content-type"})
"""Of our own headers; those of AWS and the host are always signed. Another one may change on its
way, and then the signature would not fit."""


class AwsSigner:
    """Signs for one region, by the first of: an API key of Bedrock, an access key, AWS's own chain.

    The API key may also stand in ``AWS_BEARER_TOKEN_BEDROCK``. The chain is botocore's: the
    environment, profiles, SSO, web identity, containers. Instance metadata are asked only with
    ``instance_metadata``: link-local addresses are not called unasked. The chain may read files
    and the network, so it runs in a thread.

    Raises ConfigurationError, which never repeats a secret.
    """

    def __init__(
        self,
        region: str,
        *,
        api_key: Secret | None = None,
        access_key: Secret | None = None,
        secret_key: Secret | None = None,
        session_token: Secret | None = None,
        profile: str | None = None,
        instance_metadata: bool = False,
    ) -> None:
        if not _REGION.fullmatch(region):
            raise _bad(f"The region {region!r} must be one of AWS's, such as us-east-1.", "region")
        if bool(access_key) != bool(secret_key):
            raise _bad("An access_key needs its secret_key, and the other way round.", "secret_key")
        self._region = region
        self._profile = profile
        self._instance_metadata = instance_metadata
        self._credentials: Credentials | None = None
        self._lock = threading.Lock()
        asks_by_name = bool(access_key) or profile is not None
        unasked = None if asks_by_name else os.environ.get(_BEARER)
        self._bearer = api_key or (Secret(unasked) if unasked else None)
        if self._bearer is None:
            _check_botocore()
        if access_key and secret_key:
            self._credentials = _static(access_key, secret_key, session_token)

    async def sign(self, method: str, url: str, headers: Headers, body: bytes) -> Headers:
        """These headers and those that prove who asks. Raises UpstreamRefusedCredential.

        ``url`` is signed as it stands: a model's id in it is encoded already.
        """
        kept = [header for header in headers if header[0] != b"authorization"]
        if self._bearer is not None:
            return [*kept, (b"authorization", f"Bearer {self._bearer.reveal()}".encode())]
        return kept + _signature(await self._fresh(), self._region, method, url, kept, body)

    async def _fresh(self) -> ReadOnlyCredentials:
        credentials = self._credentials
        if credentials is not None and not _may_block(credentials):
            return credentials.get_frozen_credentials()
        return await asyncio.to_thread(self._load)

    def _load(self) -> ReadOnlyCredentials:
        """Credentials that may have to be fetched; botocore lets one thread at a time do so."""
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

        try:
            with self._lock:
                if self._credentials is None:
                    self._credentials = _found(self._profile, self._instance_metadata)
            frozen = self._credentials.get_frozen_credentials()
        except (BotoCoreError, ClientError, RuntimeError, ValueError, OSError) as error:
            # Its text may hold what was asked with.
            raise _refused(f"AWS's chain of credentials failed ({type(error).__name__})") from None
        if not frozen.access_key or not frozen.secret_key:
            raise _refused("AWS's chain of credentials gave none")
        return frozen


def _signature(
    credentials: ReadOnlyCredentials,
    region: str,
    method: str,
    url: str,
    headers: Headers,
    body: bytes,
) -> Headers:
    from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
    from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]

    told = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name in _SIGNED or name.startswith(b"x-amz")
    }
    request = AWSRequest(method=method, url=url, data=body, headers=dict(told))
    SigV4Auth(credentials, "bedrock", region).add_auth(request)
    return [
        (name.lower().encode(), value.encode("latin-1"))
        for name, value in request.headers.items()
        if name.lower() not in told
    ]


def _static(access_key: Secret, secret_key: Secret, token: Secret | None) -> Credentials:
    from botocore.credentials import Credentials

    return Credentials(
        access_key.reveal(), secret_key.reveal(), token.reveal() if token else None, "explicit"
    )


def _found(profile: str | None, instance_metadata: bool) -> Credentials:
    from botocore.session import Session  # type: ignore[import-untyped]

    session = Session(profile=profile)
    if not instance_metadata:
        session.get_component("credential_provider").remove("iam-role")
    credentials = session.get_credentials()
    if credentials is None:
        raise _refused(
            "AWS's chain found no credentials: give api_key, access_key and secret_key, or profile"
        )
    return credentials


def _may_block(credentials: Credentials) -> bool:
    refresh_needed: Any = getattr(credentials, "refresh_needed", None)
    return refresh_needed is not None and bool(refresh_needed())


def _check_botocore() -> None:
    try:
        import botocore.auth  # type: ignore[import-untyped]  # noqa: F401
    except ModuleNotFoundError as missing:
        raise _bad(
            f"Signing for Bedrock needs the package {missing.name!r}, which is not installed: "
            "pip install 'proxy-core[bedrock]'. An API key of Bedrock needs none.",
            "api_key",
        ) from None


def _bad(message: str, param: str) -> ConfigurationError:
    return ConfigurationError(message, param=param)


def _refused(why: str) -> UpstreamRefusedCredential:
    return UpstreamRefusedCredential(f"the proxy has no credential for Bedrock: {why}")
