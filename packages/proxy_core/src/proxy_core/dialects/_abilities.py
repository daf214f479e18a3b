"""What a model takes and gives, as data: no branch asks for a model's name."""

from __future__ import annotations

import msgspec

__all__ = ["Abilities"]


class Abilities(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything is allowed unless a row says otherwise: a target judges best what it can do."""

    temperature: bool = True
    max_temperature: float | None = None
    top_p: bool = True
    temperature_and_top_p: bool = True
    """Both at once."""
    top_k: bool = True
    top_k_field: str = "top_k"
    """Where it goes on Bedrock, among the fields that are the model's own; a dot goes inside."""
    penalties: bool = True
    seed: bool = True
    logit_bias: bool = True
    logprobs: bool = True
    most_stops: int | None = None
    """Stop sequences at most; 0: none."""
    many_answers: bool = True
    """``n`` above 1."""
    tools: bool = True
    parallel_switch: bool = True
    """Whether parallel calls can be switched off."""
    forced_tools: bool = True
    """Whether a tool can be demanded."""
    images: bool = True
    image_urls: bool = True
    """By address; otherwise as base64 alone."""
    audio: bool = True
    video: bool = True
    files: bool = True
    json_object: bool = True
    json_schema: bool = True
    open_schemas: bool = True
    """Whether a JSON Schema may have open objects, and keywords such as ``minLength``."""
    strict_tools: bool = True
    late_system: bool = True
    """System messages after the first user's."""
    reasoning: tuple[str, ...] = ("effort", "budget", "adaptive")
    """How thinking may be asked for; empty: it can't be."""
    efforts: tuple[str, ...] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    effort_field: str = ""
    """Where an effort goes on Bedrock, in the same way; empty: where Claude takes it."""
    least_budget: int = 1024
    """Tokens of thinking."""
    reasoning_back: bool = True
    """Whether the unsigned thinking of earlier turns may come back to it on OpenAI's chat."""
    sampling_while_reasoning: bool = True
    output_cap: int | None = None
    """Output tokens: the default where the dialect demands a cap and the client gave none."""
    cap_field: str = ""
    """By which name the cap goes, where a dialect has two; empty: the newer one."""
    call_id_size: int | None = None
    """Letters and digits of a tool call's id, exactly; None: any id will do."""
    cache_marks: bool = True
    cache_key: bool = True
    """``prompt_cache_key``."""
    store: bool = True
    service_tiers: bool = True
    user: bool = True
    metadata: bool = True
