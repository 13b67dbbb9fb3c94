"""The result of a self-test, as text, as JSON-ready values, and as verdicts in the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..backends.families import VITAL
from ..backends.switches import FAMILIES
from ..backends.verdicts import Verdict, write_verdicts
from ..text import aligned, one_line
from .outcome import Kind

Result = Kind | Literal["off", "none"]
HEADINGS = ("part", "verdict", "seconds", "cases", "of bound", "detail")
TEXT_COLUMNS = (0, 1, 5)
GOOD = ("ok", "off", "none")
MAX_DETAIL = 160  # characters in the table
PARTS = {
    "maps": "tensor maps and kernels",
    **VITAL,
    "early": "early launches",
    "graph": "graphs",
}


@dataclass(frozen=True)
class Part:
    """One part of a self-test.

    - ``verdict``: "ok"; "wrong", "refused", "hung" or "crashed"; "not run" if it could not be
      decided; "off" if the user has switched it off; "none" if the GPU has no such kernels.
    - ``cases``: number of comparisons; ``worst``: their largest error as a fraction of its bound.
    - ``detail``: the reason of any verdict but "ok".
    """

    name: str
    verdict: Result
    detail: str = ""
    seconds: float = 0.0
    cases: int = 0
    worst: float = 0.0


@dataclass(frozen=True)
class Report:
    """The parts of a self-test of one device.

    ``header`` identifies the device, its driver and the build; it is None for the emulator, whose
    verdicts are not kept. ``stopped`` is the reason if the test ended early.
    """

    device: str
    gpu: str
    arch: str
    parts: Sequence[Part]
    header: Mapping[str, str | int] | None = None
    stopped: str = ""

    @property
    def ok(self) -> bool:
        """Whether some part is ok, no part failed and none is undecided."""
        verdicts = [part.verdict for part in self.parts]
        return not self.stopped and "ok" in verdicts and all(each in GOOD for each in verdicts)

    @property
    def off(self) -> list[str]:
        """Names that are off from now on: kernel families, "early" launches, "graph"."""
        found = self.verdicts().items()
        return [name for name, each in found if name not in VITAL and each.verdict != "ok"]

    def verdicts(self) -> dict[str, Verdict]:
        """Return the verdicts to keep: all that were decided, except for that about the maps.

        Families whose maps are refused have verdicts, too.
        """
        found: dict[str, Verdict] = {}
        for part in self.parts:
            undecided = part.verdict in ("off", "none", "not run")
            if part.name != "maps" and not undecided:
                found[part.name] = msgspec.convert(
                    {"verdict": part.verdict, "detail": part.detail}, Verdict
                )
        return found

    def keep(self) -> Path | None:
        """Write the verdicts of a GPU to the cache, and return the file; None if there are none.

        Programs that start later use them.
        Raises :class:`~vgg_cuda.system.cache.CacheError` if the file cannot be written.
        """
        if self.header is None or not (found := self.verdicts()):
            return None
        return write_verdicts(self.header, found)

    def sentence(self) -> str:
        """Return what the verdicts mean."""
        if self.stopped:
            off = f"; off from now on: {', '.join(self.off)}" if self.off and self.header else ""
            return f"{self.stopped}{off}"
        bad = [part for part in self.parts if part.verdict not in GOOD]
        named = {part.name: part.verdict for part in bad}
        if not bad and len(self.parts) < len(PARTS) + len(FAMILIES):
            right = ", ".join(part.name for part in self.parts if part.verdict == "ok")
            skipped = [
                f"{part.name} ({part.detail})" for part in self.parts if part.verdict != "ok"
            ]
            found = f"ok on {self.gpu}: {right}" if right else f"nothing was tested on {self.gpu}"
            return f"{found}; not tested: {', '.join(skipped)}" if skipped else found
        if not bad:
            return f"all kernels for {self.arch} that are on give right results on {self.gpu}"
        vital = ("portable", "forward") if self.off else ("maps", "portable", "forward")
        if serious := [PARTS[name] for name in vital if named.get(name, "not run") != "not run"]:
            return (
                f"do not use this build on {self.gpu}: {' and '.join(serious)} failed, and nothing "
                "replaces them; report this table"
            )
        if undecided := [name for name, verdict in named.items() if verdict == "not run"]:
            return f"undecided: {', '.join(undecided)}; run the self-test again"
        if self.header is None:
            return f"failed: {', '.join(named)}"
        return (
            f"off from now on, on {self.gpu} with this driver and build: {', '.join(self.off)}; "
            "slower kernels replace them, and forwards with these give right results"
        )

    def table(self) -> str:
        """Return the parts as aligned text, with the sentence."""
        cells = [
            (
                part.name,
                part.verdict,
                f"{part.seconds:.1f}",
                str(part.cases or "-"),
                f"{part.worst:.3f}" if part.worst else "-",
                one_line(part.detail, MAX_DETAIL),
            )
            for part in self.parts
        ]
        text = aligned([HEADINGS, *cells], left=TEXT_COLUMNS)
        return "\n".join([*text, text[1], self.sentence()])

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "device": self.device,
            "gpu": self.gpu,
            "arch": self.arch,
            "header": None if self.header is None else dict(self.header),
            "parts": [asdict(part) for part in self.parts],
            "off": self.off if self.header is not None else [],
            "ok": self.ok,
            "sentence": self.sentence(),
        }
