"""The publications that the methods section may cite, as a list of references and as BibTeX.

    for source in cited(paragraphs):
        print(source.entry, source.link, source.bibtex)

They stand in `references.bib`, one field a line and a blank line between entries. Author-year citations follow from the
entries, so a new publication needs an entry there and no code here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

FIELD = re.compile(r"^  (\w+) = \{(.*)\},?$", re.MULTILINE)


class Source(NamedTuple):
    """A publication: its citation, its entry in a list of references, its address, and its BibTeX as in the file.

    `cited` is the citation inside brackets, `Ba et al., 2016`. `link` is empty where the publication has no address.
    """

    cited: str
    entry: str
    link: str
    bibtex: str

    @property
    def named(self) -> str:
        """The citation as a part of the sentence: `Ba et al. (2016)`."""
        return re.sub(r", (\d+)$", r" (\1)", self.cited)


@cache
def sources() -> tuple[Source, ...]:
    """Returns all publications of `references.bib`, in the order of the file."""
    text = Path(__file__).with_name("references.bib").read_text(encoding="utf-8")
    return tuple(map(_read_source, text.strip().split("\n\n")))


def _read_source(bibtex: str) -> Source:
    fields = dict(FIELD.findall(bibtex))
    authors, year = fields["author"], fields["year"]
    names = authors.replace(" and others", " et al.").replace(" and ", "; ")
    place = fields.get("volume", "") + (f"({fields['number']})" if "number" in fields else "")
    parts = [fields.get("journal") or fields["booktitle"], place, fields.get("pages", "").replace("--", "–")]
    where = ", ".join(part for part in parts if part)
    entry = f"{names} ({year}). {fields['title'].strip('{}')}. {where}."
    link = f"https://doi.org/{fields['doi']}" if "doi" in fields else fields.get("url", "")
    return Source(f"{_short_authors(authors)}, {year}", entry, link, bibtex)


def _short_authors(authors: str) -> str:
    """Returns `Efron`, `Cover & Hart`, or the first of more than two with "et al."."""
    families = [author.partition(",")[0] for author in authors.split(" and ")]
    return f"{families[0]} et al." if len(families) > 2 or families[-1] == "others" else " & ".join(families)


def cited(paragraphs: Iterable[str]) -> list[Source]:
    """Returns the sources that these texts cite by author and year, in the order of a list of references."""
    text = "\n".join(paragraphs)
    found = (source for source in sources() if source.cited in text or source.named in text)
    return sorted(found, key=lambda source: source.entry)


def bibtex(listed: Iterable[Source]) -> str:
    """Returns the BibTeX of these sources as one text."""
    return "\n\n".join(source.bibtex for source in listed)
