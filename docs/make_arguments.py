"""Writes the tables of docs/arguments.md from the options that the program declares.

    python docs/make_arguments.py

Replaces what stands between the two marks in that file. `tests/test_documents.py` checks that there is nothing to do.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from layersearch.options import DECLARED, Declared

PAGE = Path(__file__).resolve().parent / "arguments.md"
BEGIN, END = "<!-- arguments: begin -->\n", "<!-- arguments: end -->"


def tables() -> str:
    """Returns one Markdown table of flags for each group of options, in the order of `--help`."""
    groups = groupby(DECLARED.values(), key=lambda declared: declared.group)
    return "\n".join("\n".join([f"## {group[0].upper()}{group[1:]}\n", *_table(list(all_))]) for group, all_ in groups)


def _table(options: list[Declared]) -> list[str]:
    rows = [("flag", "default", "meaning"), ("---", "---", "---")]
    rows += [(f"`{o.flag}`", o.default_text, o.help) for o in options]
    return [f"| {' | '.join(row)} |" for row in rows] + [""]


def filled(page: str) -> str:
    """Returns the text of the page with these tables between its marks."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + "\n" + tables() + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
