"""No riddles in comments, strings and Markdown; ``python tests/docs/test_language.py PATH ...``."""

import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATHS = ["vgg_cuda", "bench", "build_backend", "examples", "csrc", "cmake", "docs", "README.md"]
PATHS += ["CONTRIBUTING.md", "CHANGELOG.md", "CMakeLists.txt", "Makefile", ".ci/run"]
C, SHELL = r'//.*|"[^"]*"', r'#.*|"[^"]*"'  # comments and strings on one line
PROSE = dict.fromkeys((".cpp", ".h", ".cu", ".cuh", ".def"), C) | {".md": r"^(?!#).*"}
PROSE |= {"": SHELL, ".txt": SHELL, ".cmake": SHELL, ".py": r"\Z.", ".pyi": r"\Z."}
OPENERS = r"""Of|As|Those|The same|Whose|What|Nothing that|All that|That which|By the names of
Where (?:an?|the|there|it|this|that|one|no)"""  # but in questions and headings
PHRASES = r"""nobody|somebody|anybody|(?:that|what|where) there (?:is|are|was|were)|anew|mends?
(?:is|are|was|were|be) (?:told|had|not there)|those of|that which|who wants|for ever|lest
does (?:not )?for|of (?:its|their|one's) own(?=[.,;:)"])"""
RULES = rf"(?:^\W*|[.!?] |\| )({OPENERS})\b(?![^.|]*\?)|\b({PHRASES})\b"
RULES = RULES.replace("\n", "|").replace(" ", r"\s+")


def findings(path: Path) -> list[str]:
    text = re.sub("(?ms)^```.*?^```", lambda m: "\n" * m[0].count("\n"), path.read_text("utf-8"))
    lines = [" | ".join(re.findall(PROSE[path.suffix], line)) for line in text.split("\n")]
    if path.suffix in (".py", ".pyi"):
        for token in tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__):
            for i, words in enumerate(token.string.split("\n"), token.start[0] - 1):
                lines[i] += f"| {words}" * (token.type in (tokenize.COMMENT, tokenize.STRING))
    prose = re.sub(r"(?m)^[| \t]*(?:[rbf]*[\"'])*[#/ \t]*", "", "\n".join(lines))
    found = [(m, prose.count("\n", 0, m.end())) for m in re.finditer(RULES, prose, re.MULTILINE)]
    return [f"{path}:{i + 1}: {m[1] or m[2]!r}: {lines[i].strip('| ')}" for m, i in found]


def test_prose_avoids_listed_habits(paths=()) -> None:  # type: ignore[no-untyped-def]  # noqa: PT028
    tops = [Path(path) for path in paths] or [ROOT / path for path in PATHS]
    files = {f for top in tops for f in (top, *top.rglob("*")) if f.is_file() and f.suffix in PROSE}
    assert not (found := [s for file in sorted(files) for s in findings(file)]), "\n".join(found)


if __name__ == "__main__":
    test_prose_avoids_listed_habits(sys.argv[1:])
