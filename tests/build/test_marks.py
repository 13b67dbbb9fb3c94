"""The marks of tests/conftest.py: `emulator` and `gpu` skip, a missing emulator can be an error."""

from __future__ import annotations

import conftest
import pytest


def test_marks_skip_without_backend(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    items = [
        pytest.Function.from_parent(request.node.parent, name=n, callobj=lambda: None)
        for n in "abc"
    ]
    items[0].add_marker("emulator")
    items[1].add_marker("gpu")
    monkeypatch.setattr(conftest, "why_missing", lambda backend: f"no {backend}")
    conftest.pytest_collection_modifyitems(items)
    skips = [item.get_closest_marker("skip") for item in items]
    assert [skip and skip.kwargs["reason"] for skip in skips] == ["no emulator", "no cuda", None]


@pytest.mark.parametrize(("expected", "reason"), [("1", None), ("", "no emulator")])
def test_marks_stop_nothing(
    expected: str, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(conftest.EXPECTED, expected)
    monkeypatch.setattr(conftest, "why_missing", lambda backend: reason)
    conftest.pytest_configure()


def test_marks_stop_if_emulator_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(conftest.EXPECTED, "1")
    monkeypatch.setattr(conftest, "why_missing", lambda backend: "no emulator")
    with pytest.raises(pytest.UsageError, match=f"^{conftest.EXPECTED}=1: .*: no emulator$"):
        conftest.pytest_configure()
