"""Are these keys of this Langfuse, and of which project? Asked through `otelbridge.langfuse`.

One call, made by `otelbridge init` before it writes keys that it was given. An answer against the
keys is a problem with its remedy; the keys themselves are in no message.
"""

from __future__ import annotations

from typing import Final

from otelbridge.endpoints import shown
from otelbridge.errors import ConfigError, OtelbridgeError
from otelbridge.installation.plan import Problem
from otelbridge.langfuse.client import LangfuseApi, Project
from otelbridge.settings import Settings

_TIMEOUT_SECONDS: Final = 10.0


def project_of(url: str, public_key: str, secret_key: str) -> Project | Problem:
    """The project of a key pair, or why it is not known.

    Args:
        url: Langfuse as this machine reaches it.
        public_key: `pk-lf-…`.
        secret_key: `sk-lf-…`.
    Raises:
        OtelbridgeError: the package that asks is not installed.
    """
    settings = Settings.from_env(
        {
            "LANGFUSE_HOST": url,
            "LANGFUSE_PUBLIC_KEY": public_key,
            "LANGFUSE_SECRET_KEY": secret_key,
        }
    ).langfuse
    try:
        with LangfuseApi(settings, timeout_seconds=_TIMEOUT_SECONDS) as api:
            return api.project()
    except ModuleNotFoundError as error:
        raise OtelbridgeError(
            f"checking keys needs the package {error.name!r}, which is not installed. Install it "
            f"with: pip install {error.name}   or add --offline"
        ) from error
    except ConfigError:
        return Problem(
            "LANGFUSE_SECRET_KEY",
            f"Langfuse at {shown(url)} refuses the keys",
            "Copy both keys from the settings of one project there; keys of another host or "
            "region are refused.",
        )
    except OtelbridgeError:
        return Problem(
            "LANGFUSE_HOST",
            f"Langfuse at {shown(url)} did not answer GET /api/public/projects",
            "Check the address and that the server is up, or add --offline to leave the keys "
            "unchecked.",
        )
