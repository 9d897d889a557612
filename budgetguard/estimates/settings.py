"""How a call is estimated where its caller does not say: the table `[estimate]` of a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from budgetguard.errors import ConfigError
from budgetguard.policy_checks import Check, a_count, a_share, milliseconds, one_of, table_faults

LEAST_HALF_LIFE_MS = 60_000


@dataclass(frozen=True)
class EstimateSettings:
    """What the estimate of a request goes by.

    Args:
        default_output_tokens: the output of a request that does not bound it, to a model whose maximum is not known.
        tokenizer: "auto" counts short texts for OpenAI's models exactly where rs-bpe, or tiktoken with its files, is
            installed (the extra `tokenizers`); "bytes" weighs every text by its bytes.
        output: "learned" goes by what calls with the same model, agent and task have written, in any process on the
            store, never above the ceiling: the request's own bound, else the most that its model writes, else the
            default. A budget may say otherwise; of those that a request counts against the strictest decides.
        quantile: of learned outputs, for one call alone on an account; among many that are open less will do.
        half_life_ms: after which what was learned of a call counts half. A file says `half_life = "1d"`.

    Raises:
        ConfigError: lists every fault by the field's path.
    """

    default_output_tokens: int = 4_096
    tokenizer: Literal["auto", "bytes"] = "auto"
    output: Literal["learned", "ceiling"] = "learned"
    quantile: float = 0.95
    half_life_ms: int = 86_400_000

    def __post_init__(self) -> None:
        faults = [f"estimate.{fault}" for fault in table_faults(vars(self), ESTIMATE_CHECKS)]
        if faults:
            raise ConfigError("estimate", faults)


ESTIMATE_CHECKS: Mapping[str, Check] = {
    "default_output_tokens": a_count,
    "tokenizer": one_of("auto", "bytes"),
    "output": one_of("learned", "ceiling"),
    "quantile": a_share,
    "half_life_ms": milliseconds(LEAST_HALF_LIFE_MS),
}
