"""The hosts of providers, as their own documentation names them."""

from __future__ import annotations

import re

PROVIDERS = {
    # An entry that begins with a dot holds for every host below it.
    "api.openai.com": "openai",
    ".api.openai.com": "openai",  # eu. and other places where data stays
    "api.anthropic.com": "anthropic",
    "claude.googleapis.com": "anthropic",  # Anthropic's own platform, reached through Google Cloud
    "generativelanguage.googleapis.com": "gemini",
    ".openai.azure.com": "azure_openai",
    ".openai.azure.us": "azure_openai",
    ".cognitiveservices.azure.com": "azure_openai",
    ".services.ai.azure.com": "azure_openai",
    ".models.ai.azure.com": "azure_openai",
    "api.ai21.com": "ai21",
    "dashscope.aliyuncs.com": "alibaba",
    "dashscope-intl.aliyuncs.com": "alibaba",
    "dashscope-us.aliyuncs.com": "alibaba",
    ".baseten.co": "baseten",
    "api.cerebras.ai": "cerebras",
    "api.cloudflare.com": "cloudflare",
    "gateway.ai.cloudflare.com": "cloudflare",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.inference.crusoecloud.com": "crusoe",
    "api.crusoe.ai": "crusoe",
    ".cloud.databricks.com": "databricks",
    ".azuredatabricks.net": "databricks",
    ".gcp.databricks.com": "databricks",
    "api.deepinfra.com": "deepinfra",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "models.github.ai": "github",
    "models.inference.ai.azure.com": "github",
    "api.groq.com": "groq",
    "router.huggingface.co": "huggingface",
    "api-inference.huggingface.co": "huggingface",
    ".endpoints.huggingface.cloud": "huggingface",
    "api.hyperbolic.xyz": "hyperbolic",
    "api.jina.ai": "jina",
    "api.minimax.io": "minimax",
    "api.minimaxi.com": "minimax",
    "api.mistral.ai": "mistral",
    "codestral.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshot",
    "api.moonshot.cn": "moonshot",
    "api.studio.nebius.com": "nebius",
    "api.studio.nebius.ai": "nebius",
    "api.tokenfactory.nebius.com": "nebius",
    "api.novita.ai": "novita",
    "integrate.api.nvidia.com": "nvidia",
    "ollama.com": "ollama",
    "openrouter.ai": "openrouter",
    "api.perplexity.ai": "perplexity",
    "api.portkey.ai": "portkey",
    "api.sambanova.ai": "sambanova",
    ".snowflakecomputing.com": "snowflake",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "ai-gateway.vercel.sh": "vercel",
    "api.voyageai.com": "voyage",
    "api.writer.com": "writer",
    "api.x.ai": "xai",
    ".api.x.ai": "xai",
    "api.z.ai": "zai",
    "open.bigmodel.cn": "zai",
}

REGIONAL = tuple(
    (re.compile(pattern), provider)
    for pattern, provider in (
        # bedrock-runtime.us-east-1.amazonaws.com, bedrock-mantle.us-east-1.api.aws, with -fips, in China, in a VPC
        (r"(?:^|\.)bedrock-(?:runtime|mantle)(?:-fips)?\.(?:.+\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)$", "bedrock"),
        (r"^aws-external-anthropic\.[a-z0-9-]+\.api\.aws$", "anthropic"),
        # us-central1-aiplatform.googleapis.com, aiplatform.eu.rep.googleapis.com
        (r"^(?:[a-z0-9-]+-)?aiplatform\.(?:[a-z0-9-]+\.rep\.)?googleapis\.com$", "vertex"),
    )
)
"""Hosts that are named by region."""
