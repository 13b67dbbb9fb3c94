"""Fixtures that run a test on every device and with every operation."""

from __future__ import annotations

from typing import Any

import pytest
from support.call_cases import OPS, Op


@pytest.fixture(params=["cpu", pytest.param("emulator", marks=pytest.mark.emulator)])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=list(OPS))
def op(request: pytest.FixtureRequest) -> tuple[Op, Any]:
    return OPS[request.param]
