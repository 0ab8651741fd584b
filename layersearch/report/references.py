"""The publications that `methods.py` may cite, as a list of references and as BibTeX.

for source in cited(paragraphs):
    print(source.entry, source.link, source.bibtex)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Source(NamedTuple):
    """A publication: `cited` stands in the text, `entry` and `link`, which may be empty, in the list of references."""

    cited: str
    entry: str
    link: str
    bibtex: str

    @property
    def named(self) -> str:
        """`Ba et al. (2016)`: as a part of the sentence rather than in brackets."""
        return re.sub(r", (\d+)$", r" (\1)", self.cited)


def _source(kind: str, cited: str, title: str, doi: str, **fields: str) -> Source:
    """From BibTeX's fields; `doi` may be a web address, or empty. Authors are joined by " and "."""
    authors, year = fields.pop("author"), cited.rpartition(" ")[2]
    where = fields.get("journal") or fields["booktitle"]
    place = fields.get("volume", "") + (f"({fields['number']})" if "number" in fields else "")
    parts = [where, place, fields.get("pages", "").replace("--", "–")]
    link = doi if doi.startswith("http") or not doi else f"https://doi.org/{doi}"
    names = authors.replace(" and others", " et al.").replace(" and ", "; ")
    entry = f"{names} ({year}). {title}. {', '.join(part for part in parts if part)}."
    key = re.sub(r"\W", "", authors.partition(",")[0]).lower() + year
    pairs = {"author": authors, "title": f"{{{title}}}", "year": year, **fields}
    pairs |= {} if not doi else {"url": doi} if doi.startswith("http") else {"doi": doi}
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in pairs.items())
    return Source(cited, entry, link, f"@{kind}{{{key},\n{lines}\n}}")


SOURCES = (
    _source(
        "article",
        "Stains et al., 2018",
        "Anatomy of STEM teaching in North American universities",
        "10.1126/science.aap8892",
        author="Stains, M. and others",
        journal="Science",
        volume="359",
        number="6383",
        pages="1468--1470",
    ),
    _source(
        "article",
        "Smith et al., 2013",
        "The Classroom Observation Protocol for Undergraduate STEM (COPUS): a new instrument to characterize "
        "university STEM classroom practices",
        "10.1187/cbe.13-08-0154",
        author="Smith, M. K. and Jones, F. H. M. and Gilbert, S. L. and Wieman, C. E.",
        journal="CBE—Life Sciences Education",
        volume="12",
        number="4",
        pages="618--627",
    ),
    _source(
        "article",
        "Ba et al., 2016",
        "Layer normalization",
        "https://arxiv.org/abs/1607.06450",
        author="Ba, J. L. and Kiros, J. R. and Hinton, G. E.",
        journal="arXiv:1607.06450",
    ),
    _source(
        "article",
        "Srivastava et al., 2014",
        "Dropout: a simple way to prevent neural networks from overfitting",
        "https://jmlr.org/papers/v15/srivastava14a.html",
        author="Srivastava, N. and Hinton, G. and Krizhevsky, A. and Sutskever, I. and Salakhutdinov, R.",
        journal="Journal of Machine Learning Research",
        volume="15",
        pages="1929--1958",
    ),
    _source(
        "inproceedings",
        "Glorot & Bengio, 2010",
        "Understanding the difficulty of training deep feedforward neural networks",
        "https://proceedings.mlr.press/v9/glorot10a.html",
        author="Glorot, X. and Bengio, Y.",
        booktitle="Proceedings of AISTATS, PMLR",
        volume="9",
        pages="249--256",
    ),
    _source(
        "inproceedings",
        "Loshchilov & Hutter, 2019",
        "Decoupled weight decay regularization",
        "https://arxiv.org/abs/1711.05101",
        author="Loshchilov, I. and Hutter, F.",
        booktitle="International Conference on Learning Representations",
    ),
    _source(
        "inproceedings",
        "Loshchilov & Hutter, 2017",
        "SGDR: stochastic gradient descent with warm restarts",
        "https://arxiv.org/abs/1608.03983",
        author="Loshchilov, I. and Hutter, F.",
        booktitle="International Conference on Learning Representations",
    ),
    _source(
        "article",
        "Bergstra & Bengio, 2012",
        "Random search for hyper-parameter optimization",
        "https://jmlr.org/papers/v13/bergstra12a.html",
        author="Bergstra, J. and Bengio, Y.",
        journal="Journal of Machine Learning Research",
        volume="13",
        pages="281--305",
    ),
    _source(
        "inproceedings",
        "Jamieson & Talwalkar, 2016",
        "Non-stochastic best arm identification and hyperparameter optimization",
        "https://arxiv.org/abs/1502.07943",
        author="Jamieson, K. and Talwalkar, A.",
        booktitle="Proceedings of AISTATS, PMLR",
        volume="51",
        pages="240--248",
    ),
    _source(
        "inproceedings",
        "Bergstra et al., 2011",
        "Algorithms for hyper-parameter optimization",
        "https://papers.nips.cc/paper/4443",
        author="Bergstra, J. and Bardenet, R. and Bengio, Y. and Kégl, B.",
        booktitle="Advances in Neural Information Processing Systems",
        volume="24",
    ),
    _source(
        "inproceedings",
        "Akiba et al., 2019",
        "Optuna: a next-generation hyperparameter optimization framework",
        "10.1145/3292500.3330701",
        author="Akiba, T. and Sano, S. and Yanase, T. and Ohta, T. and Koyama, M.",
        booktitle="Proceedings of the 25th ACM SIGKDD International Conference on Knowledge Discovery & Data Mining",
        pages="2623--2631",
    ),
    _source(
        "article",
        "Hsu, 1984",
        "Constrained simultaneous confidence intervals for multiple comparisons with the best",
        "10.1214/aos/1176346732",
        author="Hsu, J. C.",
        journal="The Annals of Statistics",
        volume="12",
        number="3",
        pages="1136--1144",
    ),
    _source(
        "article",
        "Efron, 1979",
        "Bootstrap methods: another look at the jackknife",
        "10.1214/aos/1176344552",
        author="Efron, B.",
        journal="The Annals of Statistics",
        volume="7",
        number="1",
        pages="1--26",
    ),
    _source(
        "article",
        "Smyth, 2004",
        "Linear models and empirical Bayes methods for assessing differential expression in microarray experiments",
        "10.2202/1544-6115.1027",
        author="Smyth, G. K.",
        journal="Statistical Applications in Genetics and Molecular Biology",
        volume="3",
        number="1",
    ),
    _source(
        "inproceedings",
        "Paszke et al., 2019",
        "PyTorch: an imperative style, high-performance deep learning library",
        "https://arxiv.org/abs/1912.01703",
        author="Paszke, A. and others",
        booktitle="Advances in Neural Information Processing Systems",
        volume="32",
    ),
    _source(
        "article",
        "Harris et al., 2020",
        "Array programming with NumPy",
        "10.1038/s41586-020-2649-2",
        author="Harris, C. R. and others",
        journal="Nature",
        volume="585",
        pages="357--362",
    ),
    _source(
        "inproceedings",
        "Lam et al., 2015",
        "Numba: a LLVM-based Python JIT compiler",
        "10.1145/2833157.2833162",
        author="Lam, S. K. and Pitrou, A. and Seibert, S.",
        booktitle="Proceedings of the Second Workshop on the LLVM Compiler Infrastructure in HPC",
    ),
    _source(
        "article",
        "Beran, 1988",
        "Balanced simultaneous confidence sets",
        "",
        author="Beran, R.",
        journal="Journal of the American Statistical Association",
        volume="83",
        pages="679--686",
    ),
    _source(
        "inproceedings",
        "Krogh & Vedelsby, 1995",
        "Neural network ensembles, cross validation, and active learning",
        "",
        author="Krogh, A. and Vedelsby, J.",
        booktitle="Advances in Neural Information Processing Systems",
        volume="7",
    ),
    _source(
        "article",
        "Schönemann, 1966",
        "A generalized solution of the orthogonal Procrustes problem",
        "10.1007/BF02289451",
        author="Schönemann, P. H.",
        journal="Psychometrika",
        volume="31",
        number="1",
        pages="1--10",
    ),
    _source(
        "article",
        "Gower, 1975",
        "Generalized Procrustes analysis",
        "10.1007/BF02291478",
        author="Gower, J. C.",
        journal="Psychometrika",
        volume="40",
        number="1",
        pages="33--51",
    ),
    _source(
        "article",
        "Cover & Hart, 1967",
        "Nearest neighbor pattern classification",
        "10.1109/TIT.1967.1053964",
        author="Cover, T. M. and Hart, P. E.",
        journal="IEEE Transactions on Information Theory",
        volume="13",
        number="1",
        pages="21--27",
    ),
    _source(
        "article",
        "Rousseeuw, 1987",
        "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis",
        "10.1016/0377-0427(87)90125-7",
        author="Rousseeuw, P. J.",
        journal="Journal of Computational and Applied Mathematics",
        volume="20",
        pages="53--65",
    ),
    _source(
        "article",
        "Hubert & Arabie, 1985",
        "Comparing partitions",
        "10.1007/BF01908075",
        author="Hubert, L. and Arabie, P.",
        journal="Journal of Classification",
        volume="2",
        pages="193--218",
    ),
    _source(
        "article",
        "Schwarz, 1978",
        "Estimating the dimension of a model",
        "10.1214/aos/1176344136",
        author="Schwarz, G.",
        journal="The Annals of Statistics",
        volume="6",
        number="2",
        pages="461--464",
    ),
    _source(
        "article",
        "Pedregosa et al., 2011",
        "Scikit-learn: machine learning in Python",
        "https://jmlr.org/papers/v12/pedregosa11a.html",
        author="Pedregosa, F. and others",
        journal="Journal of Machine Learning Research",
        volume="12",
        pages="2825--2830",
    ),
)


def cited(paragraphs: Iterable[str]) -> list[Source]:
    """The sources that these texts name, by author and year, in the order of a list of references."""
    text = "\n".join(paragraphs)
    found = (source for source in SOURCES if source.cited in text or source.named in text)
    return sorted(found, key=lambda source: source.entry)


def bibtex(sources: Sequence[Source]) -> str:
    """All of them as one file."""
    return "\n\n".join(source.bibtex for source in sources)
