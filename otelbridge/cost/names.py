"""Names of providers and models as a price list knows them.

`gen_ai.provider.name` becomes a provider id of genai-prices, and a model as requests and answers
spell it (a path, a region, a date, a version) a few candidates, the most exact first. Pure.
"""

from __future__ import annotations

import re
from typing import Final

#: `gen_ai.provider.name` (semantic conventions, the spellings before 1.37, and those of LiteLLM) to
#: the provider id of genai-prices 0.2. A name that is not here is tried as it stands.
PRICE_PROVIDERS: Final = {
    "anthropic": "anthropic",
    "aws.bedrock": "aws",
    "aws_bedrock": "aws",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_ai": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "cerebras": "cerebras",
    "cohere": "cohere",
    "databricks": "databricks",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "fireworks_ai": "fireworks",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "google": "google",
    "google_genai": "google",
    "groq": "groq",
    "meta": "meta",
    "mistral": "mistral",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "moonshot_ai": "moonshotai",
    "novita": "novita",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together",
    "together_ai": "together",
    "togetherai": "together",
    "vertex_ai": "google",
    "vertexai": "google",
    "voyage": "voyageai",
    "voyageai": "voyageai",
    "x_ai": "x-ai",
    "xai": "x-ai",
    "zai": "zai",
}

#: Values of `gen_ai.provider.name` that are a framework's name: the model says whose it is.
_FRAMEWORKS: Final = frozenset({"", "strands-agents", "langchain", "litellm", "vercel"})
#: Names that a vendor gives to nobody else's models.
_VENDORS: Final = (
    (re.compile(r"^(gpt-(?!oss)|chatgpt-|o[134](-|$)|text-embedding-(3|ada)|ft:gpt-)"), "openai"),
    (re.compile(r"^claude-"), "anthropic"),
    (re.compile(r"^gemini-"), "gcp.gemini"),
    (re.compile(r"^grok-"), "x_ai"),
)
#: Their own model names hold slashes (`openai/gpt-4o` on OpenRouter).
_SLASHED_MODELS: Final = frozenset({"openrouter", "together", "novita", "fireworks", "huggingface"})
#: `models/gemini-2.5-pro`, `projects/p/locations/l/publishers/google/models/…`, the ARN of an
#: inference profile, `accounts/fireworks/models/…`.
_PATH: Final = re.compile(r"^(.*[/:])?(models|inference-profile|foundation-model)/", re.IGNORECASE)
#: Cross-region inference profiles of Amazon Bedrock.
_REGION: Final = re.compile(r"^(us|us-gov|eu|apac|ap|au|ca|jp|sa|global)\.(?=[a-z0-9-]+\.)")
_BEDROCK_VERSION: Final = re.compile(r"-v\d+(:\d+)?(:\d+k)?$")
_DATE: Final = re.compile(r"[-@](20\d{2}-\d{2}-\d{2}|20\d{6})$")
_LATEST: Final = re.compile(r"(:latest|@latest|@default)$")


def price_provider(provider: str) -> str:
    """The provider id of the price list."""
    name = provider.strip().lower()
    return PRICE_PROVIDERS.get(name, name)


def vendor(provider: str, models: tuple[str, ...]) -> str:
    """The provider; where none is named, or a framework, the vendor of a model that names it."""
    if provider.lower() in _FRAMEWORKS:
        for model in models:
            for pattern, name in _VENDORS:
                if pattern.match(model.lower()):
                    return name
    return provider


def model_names(provider: str, model: str) -> list[str]:
    """Ways to name a model, lower case, as given first and the least exact last."""
    names = [model.strip().lower()]

    def also(name: str) -> None:
        if name and name not in names:
            names.append(name)

    for name in tuple(names):
        also(_PATH.sub("", name))
    bare = names[-1]
    before, slash, rest = bare.partition("/")
    if slash and (
        price_provider(before) == price_provider(provider)
        or (before in PRICE_PROVIDERS and price_provider(provider) not in _SLASHED_MODELS)
    ):
        also(rest)
    for pattern in (_LATEST, _REGION, _BEDROCK_VERSION, _DATE):
        also(pattern.sub("", names[-1]))
    return names


def same_model(one: str, other: str) -> bool:
    """Whether two names may stand for one model: equal but for path, region, version and date."""
    return _essence(one) == _essence(other)


def _essence(model: str) -> str:
    name = _PATH.sub("", model.strip().lower()).rpartition("/")[2]
    for pattern in (_LATEST, _REGION, _BEDROCK_VERSION, _DATE):
        name = pattern.sub("", name)
    return name
