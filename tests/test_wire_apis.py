"""Which API a request goes to: of every recorded one, at the hosts where its provider really answers, and of others."""

from __future__ import annotations

import pytest
from wire_kit import exchanges

from budgetguard.wire.apis import FREE, Api, recognise
from budgetguard.wire.hosts import Host

# Where the providers of the recordings answer, and the kind of each API there.
HOSTS = {
    "anthropic": "api.anthropic.com",
    "azure_openai": "some-resource.openai.azure.com",
    "bedrock": "bedrock-runtime.us-east-1.amazonaws.com",
    "bedrock_mantle": "bedrock-mantle.us-east-1.api.aws",
    "cerebras": "api.cerebras.ai",
    "cloudflare": "api.cloudflare.com",
    "cohere": "api.cohere.com",
    "crusoe": "api.inference.crusoecloud.com",
    "databricks": "dbc-1234.cloud.databricks.com",
    "deepseek": "api.deepseek.com",
    "gemini": "generativelanguage.googleapis.com",
    "gemini_openai_compat": "generativelanguage.googleapis.com",
    "gpustack": "gpustack.example:8080",
    "groq": "api.groq.com",
    "huggingface": "router.huggingface.co",
    "local": "localhost:8000",
    "mistral": "api.mistral.ai",
    "ollama": "localhost:11434",
    "ollama_cloud": "ollama.com",
    "openai": "api.openai.com",
    "openrouter": "openrouter.ai",
    "perplexity": "api.perplexity.ai",
    "portkey": "api.portkey.ai",
    "snowflake": "org-account.snowflakecomputing.com",
    "together": "api.together.xyz",
    "vertex": "us-central1-aiplatform.googleapis.com",
    "voyage": "api.voyageai.com",
    "writer": "api.writer.com",
    "xai": "api.x.ai",
    "zai": "api.z.ai",
}
PROVIDERS = {
    "bedrock_mantle": "bedrock",
    "gemini_openai_compat": "gemini",
    "gpustack": "gpustack.example",
    "local": "localhost",
    "ollama_cloud": "ollama",
}
KINDS = {
    "chat_v1": "cohere_chat_v1",
    "chat_v2": "cohere_chat",
    "native_chat": "ollama_chat",
    "native_generate": "ollama_generate",
    "responses_compact": "responses",
}
EMBEDDINGS = {"cohere": "cohere_embed", "gemini": "embedContent"}


def test_every_recorded_request_is_recognised_at_its_providers_host() -> None:
    asked = [row for row in exchanges() if row["request"] is not None]
    assert len(asked) > 1_100
    for row in asked:
        provider, path = row["provider"], row["request"]["path"]
        found = recognise(row["request"]["method"], HOSTS[provider], path)
        if row["api"] == "count_tokens":
            assert found == FREE, path
            continue
        kind = EMBEDDINGS.get(provider, "embeddings") if row["api"] == "embeddings" else row["api"]
        assert isinstance(found, Api), (provider, path)
        assert (found.kind, found.provider) == (KINDS.get(kind, kind), PROVIDERS.get(provider, provider)), path


def test_the_model_that_a_path_names_is_the_one_that_was_asked_for() -> None:
    for row in exchanges("converse", "invoke", "generateContent"):
        if row["request"] is not None:
            found = recognise("POST", HOSTS[row["provider"]], row["request"]["path"])
            assert isinstance(found, Api)
            assert (found.model or "").startswith(row["model"]), row["request"]["path"]  # the recordings cut ":0" off
            if row.get("stream_format") in ("aws_eventstream", "json_array_stream"):
                assert found.streams


VERTEX = "/v1/projects/p/locations/us-east5/publishers"
ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3"


@pytest.mark.parametrize(
    ("host", "path", "api"),
    [
        ("API.OpenAI.com", "/v1/chat/completions", Api("chat", "openai")),
        ("api.openai.com:443", "/v1/chat/completions/", Api("chat", "openai")),
        ("api.openai.com.", "//v1/chat/completions?api-version=1#x", Api("chat", "openai")),
        ("eu.api.openai.com", "/v1/responses", Api("responses", "openai")),
        ("api.openai.com", "/v1/engines/davinci/completions", Api("completions", "openai", "davinci")),
        ("r.openai.azure.com", "/openai/deployments/my%20gpt/embeddings", Api("embeddings", "azure_openai", "my gpt")),
        ("r.cognitiveservices.azure.com", "/openai/v1/chat/completions", Api("chat", "azure_openai")),
        ("r.services.ai.azure.com", "/anthropic/v1/messages", Api("messages", "azure_openai")),
        ("r.services.ai.azure.com", "/models/chat/completions?api-version=2024-05-01", Api("chat", "azure_openai")),
        ("r.models.ai.azure.com", "/v1/chat", Api("cohere_chat_v1", "azure_openai")),
        ("api.deepseek.com", "/anthropic/v1/messages", Api("messages", "deepseek")),
        ("api.deepseek.com", "/beta/completions", Api("completions", "deepseek")),
        ("api.fireworks.ai", "/inference/v1/chat/completions", Api("chat", "fireworks")),
        ("api.mistral.ai", "/v1/fim/completions", Api("completions", "mistral")),
        ("api.mistral.ai", "/v1/agents/completions", Api("chat", "mistral")),
        ("api.moonshot.ai", "/v1/chat/completions", Api("chat", "moonshot")),
        ("api.perplexity.ai", "/v1/agent", Api("responses", "perplexity")),
        ("api.z.ai", "/api/anthropic/v1/messages", Api("messages", "zai")),
        ("openrouter.ai", "/api/v1/messages", Api("messages", "openrouter")),
        ("adb-1.2.azuredatabricks.net", "/serving-endpoints/chat/completions", Api("chat", "databricks")),
        ("api.cohere.ai", "/compatibility/v1/chat/completions", Api("chat", "cohere")),
        ("claude.googleapis.com", "/v1/projects/p/locations/g/workspaces/w/invoke/v1/messages",
         Api("messages", "anthropic")),
        ("aws-external-anthropic.us-east-1.api.aws", "/v1/messages", Api("messages", "anthropic")),
        ("bedrock-mantle.us-east-1.api.aws", "/anthropic/v1/messages", Api("messages", "bedrock")),
        ("bedrock-runtime.us-west-2.amazonaws.com", "/openai/v1/chat/completions", Api("chat", "bedrock")),
        ("bedrock-runtime-fips.us-east-1.amazonaws.com", f"/model/{ARN.replace(':', '%3A').replace('/', '%2F')}/invoke",
         Api("invoke", "bedrock", ARN)),
        ("vpce-1-2.bedrock-runtime.us-east-1.vpce.amazonaws.com", f"/model/{ARN}/invoke-with-response-stream",
         Api("invoke", "bedrock", ARN, streams=True)),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "/model/m/converse-stream",
         Api("converse", "bedrock", "m", streams=True)),
        ("aiplatform.eu.rep.googleapis.com", f"{VERTEX}/anthropic/models/claude-x%4020250929:rawPredict",
         Api("messages", "vertex", "claude-x@20250929")),
        ("aiplatform.googleapis.com", f"{VERTEX}/anthropic/models/claude-x:streamRawPredict",
         Api("messages", "vertex", "claude-x", streams=True)),
        ("us-east5-aiplatform.googleapis.com", f"{VERTEX}/mistralai/models/codestral:rawPredict",
         Api("chat", "vertex", "codestral")),
        ("us-east5-aiplatform.googleapis.com", "/v1/projects/p/locations/l/endpoints/openapi/chat/completions",
         Api("chat", "vertex")),
        ("us-east5-aiplatform.googleapis.com", "/v1/projects/p/locations/l/endpoints/123:streamGenerateContent",
         Api("generateContent", "vertex", "123", streams=True)),
        ("us-east5-aiplatform.googleapis.com", "/v1beta1/projects/p/locations/l/interactions",
         Api("interactions", "vertex")),
        ("generativelanguage.googleapis.com", "/v1beta/models/e:embedContent", Api("embedContent", "gemini", "e")),
        ("192.168.1.5:11434", "/api/embeddings", Api("ollama_embed", "ollama")),
        ("127.0.0.1:11434", "/v1/chat/completions", Api("chat", "ollama")),
        ("[::1]:11434", "/api/embed", Api("ollama_embed", "ollama")),
        ("::1", "/v1/completions", Api("completions", "[::1]")),
        ("gateway.corp.example", "/team/groq/openai/v1/chat/completions", Api("chat", "gateway.corp.example")),
        ("evilapi.openai.com.example", "/v1/chat/completions", Api("chat", "evilapi.openai.com.example")),
        ("notapi.openai.com", "/v1/chat/completions", Api("chat", "notapi.openai.com")),
    ],
)  # fmt: skip
def test_hosts_and_paths_in_all_their_forms(host: str, path: str, api: Api) -> None:
    assert recognise("post", host, path) == api


COUNTING = [
    ("api.openai.com", "/v1/responses/input_tokens"),
    ("api.anthropic.com", "/v1/messages/count_tokens?beta=true"),
    ("generativelanguage.googleapis.com", "/v1beta/models/m:countTokens"),
    ("us-east5-aiplatform.googleapis.com", f"{VERTEX}/google/models/m:computeTokens"),
    ("us-east5-aiplatform.googleapis.com", f"{VERTEX}/anthropic/models/count-tokens:rawPredict"),
    ("bedrock-runtime.us-east-1.amazonaws.com", "/model/m/count-tokens"),
    ("api.cohere.com", "/v1/tokenize"),
    ("localhost:8000", "/detokenize"),
    ("api.x.ai", "/v1/tokenize-text"),
    ("api.moonshot.ai", "/v1/tokenizers/estimate-token-count"),
]
ADMINISTERING = [
    ("api.openai.com", "/v1/moderations"),
    ("api.openai.com", "/v1/files"),
    ("api.openai.com", "/v1/uploads"),
    ("api.openai.com", "/v1/uploads/upload_1/parts"),
    ("api.openai.com", "/v1/uploads/upload_1/complete"),
    ("api.openai.com", "/v1/conversations"),
    ("api.openai.com", "/v1/conversations/conv_1/items"),
    ("api.openai.com", "/v1/responses/resp_1/cancel"),
    ("api.openai.com", "/v1/batches/batch_1/cancel"),
    ("api.anthropic.com", "/v1/files"),
    ("api.anthropic.com", "/v1/messages/batches/b/cancel"),
    ("generativelanguage.googleapis.com", "/upload/v1beta/files"),
    ("generativelanguage.googleapis.com", "/v1beta/interactions/i/cancel"),
    ("api.cohere.com", "/v1/check-api-key"),
    ("localhost:11434", "/api/show"),
    ("localhost:11434", "/api/pull"),
]


@pytest.mark.parametrize(("host", "path"), COUNTING + ADMINISTERING)
def test_counting_and_administering_are_free(host: str, path: str) -> None:
    assert recognise("POST", host, path) == FREE


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "get"])
def test_listing_fetching_and_deleting_are_free_everywhere(method: str) -> None:
    for path in ["/v1/models", "/v1/responses/resp_1", "/v1/chat/completions", "/anything"]:
        assert recognise(method, "api.openai.com", path) == FREE
        assert recognise(method, "unknown.example", path) == FREE


# What bills, or may, in ways that are not read: never free, and never taken for what it is not.
UNKNOWN = [
    *(("api.openai.com", f"/v1/{end}") for end in (
        "images/generations", "images/edits", "audio/speech", "audio/transcriptions", "videos", "batches",
        "fine_tuning/jobs", "realtime/sessions", "realtime/client_secrets", "realtime/calls", "threads",
        "threads/t/messages", "threads/t/runs", "threads/runs", "vector_stores", "vector_stores/v/files",
        "vector_stores/v/search", "containers", "containers/c/files", "evals/e/runs", "assistants",
        "chat/completions/c", "responses/r", "chatkit/sessions",
    )),
    ("r.openai.azure.com", "/openai/deployments/d/images/generations"),
    ("r.openai.azure.com", "/v1/moderations"),
    ("api.mistral.ai", "/v1/moderations"),
    ("api.mistral.ai", "/v1/ocr"),
    ("api.mistral.ai", "/v1/conversations"),
    ("api.mistral.ai", "/v1/conversations/conv_1"),
    ("api.anthropic.com", "/v1/messages/batches"),
    ("api.anthropic.com", "/v1/sessions"),
    ("api.perplexity.ai", "/async/chat/completions"),
    ("api.perplexity.ai", "/search"),
    ("generativelanguage.googleapis.com", "/v1beta/models/imagen:predict"),
    ("generativelanguage.googleapis.com", "/v1beta/models/veo:predictLongRunning"),
    ("generativelanguage.googleapis.com", "/v1beta/models/m:batchGenerateContent"),
    ("generativelanguage.googleapis.com", "/v1beta/models/m:asyncBatchEmbedContent"),
    ("generativelanguage.googleapis.com", "/v1beta/cachedContents"),
    ("us-east5-aiplatform.googleapis.com", f"{VERTEX}/unheard-of/models/m:rawPredict"),
    ("bedrock-runtime.us-east-1.amazonaws.com", "/async-invoke"),
    ("bedrock-runtime.us-east-1.amazonaws.com", "/model/m/invoke-with-bidirectional-stream"),
    ("bedrock-runtime.us-east-1.amazonaws.com", "/model/m/converse-with-response-stream"),
    ("bedrock-runtime.us-east-1.amazonaws.com", "/guardrail/g/version/1/apply"),
    ("bedrock-agent-runtime.us-east-1.amazonaws.com", "/agents/a/agentAliases/b/sessions/c/text"),
    ("api.cohere.com", "/v1/classify"),
    ("api.x.ai", "/v1/images/generations"),
    ("api.z.ai", "/v1/chat"),
    ("unknown.example", "/v1/chat"),
    ("unknown.example", "/api/create"),
    ("unknown.example", "/v1/moderations"),
    ("unknown.example", "/messages"),
    ("unknown.example", "/"),
    ("unknown.example", ""),
    ("", ":"),
]  # fmt: skip


@pytest.mark.parametrize(("host", "path"), UNKNOWN)
def test_what_may_bill_and_is_not_read_is_unknown(host: str, path: str) -> None:
    assert recognise("POST", host, path) is None


@pytest.mark.parametrize("method", ["PUT", "PATCH", "QUERY", ""])
def test_other_methods_are_unknown(method: str) -> None:
    assert recognise(method, "api.openai.com", "/v1/chat/completions") is None


def test_a_declared_host_names_the_provider_and_the_family_and_wins_over_what_is_known() -> None:
    hosts = (
        Host("*.corp.example", "gateway", "openai"),
        Host("claude.corp.example", "anthropic", "anthropic"),
        Host("*.eu.corp.example", "eu", "cohere"),
        Host("localhost:8000", "vllm", "openai"),
        Host("localhost", "llama", "ollama"),
        Host("[::1]:9000", "six", "openai"),
        Host("API.openai.com", "house", "openai"),
    )
    asked = {
        ("a.corp.example", "/v1/chat/completions"): Api("chat", "gateway"),
        ("CLAUDE.corp.example:8443", "/messages"): Api("messages", "anthropic"),
        ("claude.corp.example", "/v1/chat/completions"): Api("chat", "anthropic"),
        ("x.eu.corp.example", "/chat"): Api("cohere_chat", "eu"),
        ("x.eu.corp.example", "/v1/chat"): Api("cohere_chat_v1", "eu"),
        ("localhost:8000", "/v1/completions"): Api("completions", "vllm"),
        ("localhost:8001", "/api/generate"): Api("ollama_generate", "llama"),
        ("localhost", "/api/show"): FREE,
        ("::1:9000", "/v1/completions"): Api("completions", "[::1:9000]"),  # an address of its own
        ("[::1]:9000", "/v1/completions"): Api("completions", "six"),
        ("api.openai.com", "/v1/chat/completions"): Api("chat", "house"),
        ("api.openai.com", "/v1/moderations"): None,  # who knows what the house bills
        ("corp.example", "/messages"): None,
    }
    assert {key: recognise("POST", *key, hosts) for key in asked} == asked


@pytest.mark.parametrize(
    ("version", "refuses"),
    [
        ("2023-05-15", True), ("2024-02-01", True), ("2024-08-01-preview", True), ("2024-09-01-preview", False),
        ("2024-10-21", False), ("2025-04-01-preview", False), ("preview", False), ("", False), ("2024", False),
    ],
)  # fmt: skip
def test_azure_is_not_asked_for_usage_by_versions_that_do_not_know_the_question(version: str, refuses: bool) -> None:
    for query in (f"api-version={version}", f"x=1&api-version={version}#part"):
        path = f"/openai/deployments/gpt-4/chat/completions?{query}"
        for host, provider in (("r.openai.azure.com", "azure_openai"), ("gateway.example", "gateway.example")):
            api = recognise("POST", host, path)
            assert api == Api("chat", provider, "gpt-4", refuses_stream_options=refuses)
        # Azure's other API, which has known it in this version already, as the recordings show.
        api = recognise("POST", "r.services.ai.azure.com", f"/models/chat/completions?{query}")
        assert api == Api("chat", "azure_openai")
    assert recognise("POST", "r.openai.azure.com", "/openai/v1/chat/completions") == Api("chat", "azure_openai")


def test_a_host_may_refuse_to_be_asked_for_usage() -> None:
    hosts = [Host("strict.example", "strict", "openai", refuses_stream_options=True), Host("o.example", "o", "openai")]
    api = recognise("POST", "strict.example", "/v1/chat/completions", hosts)
    assert api == Api("chat", "strict", refuses_stream_options=True)
    assert recognise("POST", "o.example", "/v1/chat/completions", hosts) == Api("chat", "o")
