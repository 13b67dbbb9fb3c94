"""Bad arguments of the self-test are reported before any work."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from vgg_cuda.cli.main import app
from vgg_cuda.selftest import selftest

pytestmark = pytest.mark.emulator


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"only": []}, ValueError, "only: expected some of maps, .* got none"),
        ({"only": [1]}, ValueError, "only: .* got 1"),
        ({"only": 1}, TypeError, "only: .* got 1"),
        ({"limit_s": 0}, ValueError, "limit_s: expected a number of seconds > 0, got 0"),
        ({"limit_s": float("nan")}, ValueError, "limit_s: .* got nan"),
        ({"limit_s": True}, TypeError, "limit_s: .* got True"),
        ({"repeats": 0}, ValueError, "repeats: expected an integer >= 1, got 0"),
        ({"repeats": 1.5}, TypeError, r"repeats: .* got 1\.5"),
    ],
    ids=str,
)
def test_bad_values_are_reported(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        selftest("emulator", **options)


@pytest.mark.parametrize("only", ["", ","])
def test_only_without_names_is_an_error(only: str) -> None:
    result = CliRunner().invoke(app, ["selftest", "--device", "emulator", "--only", only])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --only: expected some of maps, ")
