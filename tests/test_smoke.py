"""The main job: the official SDK talks to a real model through the proxy."""

from __future__ import annotations

from collections.abc import Callable

import openai

from proxy_api.testing import settings_for


def test_openai_sdk_streams_from_a_real_model(llama: str, gateway: Callable[..., str]) -> None:
    """The SDK's stream through the proxy ends with a finish reason and has text."""
    url = gateway(settings_for(llama, model="smollm2"))
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        chunks = list(
            client.chat.completions.create(
                model="smollm2",
                messages=[{"role": "user", "content": "Say hello."}],
                max_tokens=8,
                stream=True,
            )
        )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}
