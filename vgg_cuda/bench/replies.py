"""What a worker's answers must be: adapters are anybody's, and a report holds no nonsense."""

from __future__ import annotations

from typing import Any

from .validation import conform

SHORTEST_S, LONGEST_S = 1e-12, 1e9
"""Nothing that is measured takes less or longer."""

_MAX_BYTES = 1 << 60
_NEEDED: dict[str, dict[str, Any]] = {
    "open": {"load_s": float, "versions": dict[str, Any]},
    "check": {"relative_error": float | None},
    "warm": {"call_s": float},
    "sample": {"times": list[float], "enqueue": list[float], "parts": list[list[float]]},
}
_POSSIBLE: dict[str, dict[str, Any]] = {
    "prepare": {
        "how": str, "kernels": list[str] | None, "counters": dict[str, float] | None,
        "steps": list[dict[str, Any]],
    },
    "finish": {"host_to_device_s": float | None, "peak_bytes": int | None},
}  # fmt: skip


def checked(do: str, reply: dict[str, Any]) -> dict[str, Any]:
    """The ``reply`` to a message that said ``do``, with the types that this package expects.

    Raises ``ValueError`` for what is missing, of another type, not finite, negative, or a time that
    no call takes.
    """
    found = dict(reply)
    for name, hint in _NEEDED.get(do, {}).items():
        if name not in reply:
            raise ValueError(f"{name}: missing")
        found[name] = conform(reply[name], hint, name)
    for name, hint in _POSSIBLE.get(do, {}).items():
        if name in reply:
            found[name] = conform(reply[name], hint, name)
    if do == "sample" and not found["times"]:
        raise ValueError("times: expected at least one")
    for seconds in found.get("times", ()):
        if not SHORTEST_S < seconds < LONGEST_S:
            raise ValueError(f"times: got {seconds:.4g} s, which no call takes")
    others = [found.get(name) for name in ("load_s", "call_s", "host_to_device_s")]
    others += [*found.get("enqueue", ()), *(t for part in found.get("parts", ()) for t in part)]
    for value in others:
        if value is not None and not 0 <= value < LONGEST_S:
            raise ValueError(f"a time of {value:.4g} s, which nothing takes")
    if not 0 <= (found.get("peak_bytes") or 0) < _MAX_BYTES:
        raise ValueError(f"peak_bytes: got {found['peak_bytes']}, which nothing holds")
    return found
