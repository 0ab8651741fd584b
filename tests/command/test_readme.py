"""The README is held to the program it describes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from layersearch.command.arguments import build_parser
from layersearch.pictures import drawing

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "output/README.md"]


def shown(default: object) -> str:
    if default is None:
        return ""
    if default is False:
        return "off"
    return f'"{default}"' if isinstance(default, str) else str(default)


def test_every_argument_is_listed_once_with_its_real_default() -> None:
    listed = dict(re.findall(r"^\| `(--\w+)` \|([^|]*)\|", README, flags=re.MULTILINE))
    real = {
        action.option_strings[0]: shown(action.default) for action in build_parser()._actions if action.dest != "help"
    }
    assert {flag: default.strip() for flag, default in listed.items()} == real


def test_the_two_commands_are_those_that_were_promised() -> None:
    assert re.findall(r"^    (pip install -r .*)$", README, flags=re.MULTILINE) == [
        "pip install -r requirements.txt && python hyperparam_optimizer.py --latent_dim 3 "
        '--hidden_dims_search "16,32,64" --max_layers 3 --epochs 20',
        "pip install -r requirements-dev.txt && python -m pytest",
    ]


def test_the_example_in_python_runs(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    shutil.copy(table, tmp_path / "my_classes.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(drawing, "draw_search", lambda *_, **__: {})
    names: dict[str, Any] = {}
    exec(example, names)
    assert tuple(names["latent"].shape) == (len(names["my_classes"]), 3)
    out = capsys.readouterr().out
    assert f"\n{names['results'].verdict[0]}\n" in out
    assert names["tied"]["tied"].all()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_to_a_file_leads_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith("http"):
            assert ((ROOT / document).parent / target).exists(), target
