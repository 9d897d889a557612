"""What is installed: the program, its libraries, the price data; and how it was started."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import budgetguard.version
from budgetguard.doctor.findings import Check, Facts, well, without_secrets
from budgetguard.policy import Policy

LIBRARIES = (
    "apsw", "hiredis", "msgpack", "psycopg", "genai-prices", "structlog", "prometheus-client", "openai", "anthropic",
    "google-genai", "boto3", "httpx",
)  # fmt: skip
OLD_PRICES_DAYS = 120
DAY_S = 86_400
PRICES = "genai-prices"


def program(command: Sequence[str]) -> Facts:
    """Which program runs, where it lies, and what it was asked, without secrets."""
    return {
        "command": [without_secrets(word) for word in command],
        "binary": shutil.which("budgetguard") or sys.argv[0],
        "python": sys.executable,
        "package": str(Path(budgetguard.version.__file__).parent),
        "folder": os.getcwd(),
        "host": platform.node(),
    }


def versions() -> Facts:
    """Of Python, the system, budgetguard and what it uses; None for what is not installed."""
    found: Facts = {
        "budgetguard": budgetguard.version.VERSION, "python": platform.python_version(), "system": platform.platform()
    }  # fmt: skip
    return found | {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str | None:
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None


def prices(policy: Policy | None) -> Facts:
    """The built-in price data, since when it is installed, and the policy's own prices."""
    own = () if policy is None else policy.prices.prices
    return {
        "data": f"{PRICES} {_version(PRICES)}",
        "installed_days": _installed_days(),
        "own": [
            {
                "model": price.model,
                "usd_per_mtok": {kind: str(usd) for kind, usd in (price.usd_per_mtok or {}).items()},
                "usd_per_request": None if price.usd_per_request is None else str(price.usd_per_request),
                "valid_from": None if price.valid_from is None else price.valid_from.isoformat(),
            }
            for price in own
        ],
    }


def _installed_days() -> int | None:
    """Since when the data lies here: it says nothing of its own age."""
    try:
        file = distribution(PRICES).locate_file("genai_prices/data.py")
        return int((time.time() - os.stat(str(file)).st_mtime) // DAY_S)
    except (PackageNotFoundError, OSError):
        return None


def check_versions(found: Facts) -> Check:
    """They are told; pip has seen to it that they fit."""
    return well("versions", f"budgetguard {found['budgetguard']}, Python {found['python']}, apsw {found['apsw']}")


def check_prices(found: Facts) -> Check:
    """Whether the data is so old that models of today are missing."""
    days, own = found["installed_days"], len(found["own"])
    text = f"{found['data']}, installed {days} days ago; {own} prices of the policy's own"
    if days is None:
        return Check("prices", "failed", "the built-in price data is missing", "install llm-budgetguard again")
    if days > OLD_PRICES_DAYS:
        return Check("prices", "warning", text, f"pip install --upgrade {PRICES}: newer models have no price here")
    return well("prices", text)
