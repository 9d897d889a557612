"""The check of the imports sees what must not be, and lets the others pass."""

from __future__ import annotations

import pytest
from imports_kit import imports, modules
from test_architecture import fault


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("core.amounts", "import time", "no clock"),
        ("core.model", "def f():\n    from asyncio import sleep", "no clock"),
        ("core.amounts", "from budgetguard.core.machine import decide", "below"),
        ("core.amounts", "from budgetguard.core import machine", "below"),
        ("core.machine", "import redis", "belongs to another"),
        ("errors", "from budgetguard.core.model import Violation", "below"),
        ("core.machine", "import budgetguard", "package root"),
        ("usage", "from budgetguard import Guard", "package root"),
        ("usage", "from budgetguard import guard", "below"),
        ("usage", "from .pricing import price", "absolute"),
        ("usage", "import importlib\nimportlib.import_module(name)", "absolute and constant"),
        ("usage", "__import__('budgetguard.testing')", "does not reach rim"),
        ("stores.scripts", "from budgetguard.usage import Usage", "stores does not reach middle"),
        ("usage", "from budgetguard.stores.scripts import lua_dir", "middle does not reach stores"),
        ("testing.chat", "from budgetguard.cli import main", "rim does not reach rim"),
        ("", "from budgetguard.testing import FakeProvider", "root does not reach rim"),
        ("nowhere", "import json", "not in the table"),
    ],
)
def test_the_check_sees_a_forbidden_import(module: str, source: str, wrong: str) -> None:
    faults = [fault(module, found, modules()) for found in imports(source)]
    assert any(wrong in (text or "") for text in faults), faults


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("errors", "if TYPE_CHECKING:\n    from budgetguard.core.model import Violation"),
        ("core.machine", "from budgetguard.core import amounts\nimport json"),
        ("testing.chat", "from budgetguard.testing.http import HttpFault\nimport asyncio"),
        ("testing.chat", "from budgetguard.usage import Usage"),
    ],
)
def test_the_check_lets_the_others_pass(module: str, source: str) -> None:
    assert [fault(module, found, modules()) for found in imports(source)] == [None] * len(list(imports(source)))
