"""No riddles in comments, strings and Markdown; ``python tests/docs/test_language.py PATH ...``."""

import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATHS = ["vgg_cuda", "bench", "build_backend", "examples", "csrc", "cmake", "docs", "tests"]
PATHS += ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CMakeLists.txt", "Makefile", ".ci/run"]
PROSE = dict.fromkeys((".cpp", ".h", ".cu", ".cuh", ".def"), r'//.*|"[^"]*"') | {".md": r"^(?!#).*"}
PROSE |= dict.fromkeys(("", ".txt", ".cmake"), r'#.*|"[^"]*"') | {".py": r"\Z.", ".pyi": r"\Z."}
OPENERS = r"""Of|As|Those|The same|Whose|What|Nothing that|All that|That which|By the names of
Where (?:an?|the|there|it|this|that|one|no)"""  # but in questions and headings
PHRASES = r"""nobody|somebody|anybody|(?:that|what|where) there (?:is|are|was|were)|anew|mends?
(?:is|are|was|were|be) (?:told|had|not there)|those of|that which|who wants|for ever|lest
does (?:not )?for|of (?:its|their|one's) own(?=[.,;:)"])"""
RULE = rf"(?:^\W*|[.!?] |\| )({OPENERS})\b(?![^.|]*\?)|\b({PHRASES})\b".replace("\n", "|")
RULE = re.compile(RULE.replace(" ", r"\s+"), re.MULTILINE)


def findings(path: Path) -> list[str]:
    text = re.sub("(?ms)^```.*?^```", lambda m: "\n" * m[0].count("\n"), path.read_text("utf-8"))
    lines = [" | ".join(re.findall(PROSE[path.suffix], line)) for line in text.split("\n")]
    if path.suffix in (".py", ".pyi"):
        for token in tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__):
            for i, words in enumerate(token.string.split("\n"), token.start[0] - 1):
                lines[i] += f"| {words}" * (token.type in (tokenize.COMMENT, tokenize.STRING))
    prose = re.sub(r"(?m)^[| \t]*(?:[rbf]*[\"'])*[#/ \t]*", "", "\n".join(lines))
    return [f"{path}:{prose.count(chr(10), 0, m.end()) + 1}: {m[0]}" for m in RULE.finditer(prose)]


def test_prose_avoids_listed_habits(paths=PATHS) -> None:  # type: ignore  # noqa: PT028
    files = {file for top in paths for file in (ROOT / top, *(ROOT / top).rglob("*"))}
    files = {f for f in files if f.suffix in PROSE and f.is_file()} - {Path(__file__).resolve()}
    assert not (found := [s for f in sorted(files) for s in findings(f)]), "\n".join(found)


if __name__ == "__main__":
    test_prose_avoids_listed_habits(sys.argv[1:] or PATHS)
