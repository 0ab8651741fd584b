"""Every bad argument, and every one that does not fit its table, ends in exit status 2 and a line that says what to do.

Nothing is written then, and nothing that was there is touched.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import TINY, run
from made_tables import N, copus_frame, write
from refusals import assert_refused

import hyperparam_optimizer
from layersearch.files import SAMPLE_PATH

# --- Arguments -------------------------------------------------------------------------------------

# id: what is added to the command line, how its one line begins, and a part of the remedy
ARGUMENTS: dict[str, tuple[list[str], str, str]] = {
    f"{flag} {value[:12]!r}": ([f"--{flag}={value}"], f"--{flag} ", remedy)
    for flag, remedy, values in [
        ("latent_dim", "whole number from 1 to 10000", ["0", "-3", "1e3", "3.0", "", " ", "nan", "٣", "9" * 5000]),
        ("max_layers", "whole number from 1 to 100", ["0", "101", "1e3", "inf", "three"]),
        ("repeats", "whole number from 1 to 10000", ["0", "10001", "2.5", "-1"]),
        ("epochs", "whole number from 1 to", ["0", "-20", "1e3", "99999999999", "²", "0x10", "1_000"]),
        ("batch_size", "whole number from 1 to", ["0", "2147483648", "32.0", "9" * 25]),
        ("seed", "whole number from 0 to", ["-1", "9223372036854775808", "random"]),
        ("threads", "whole number from 0 to 4096", ["-1", "4097", "all"]),
        ("cv_folds", "whole number from 0 to 1000", ["-5", "1001", "5.0"]),
        ("max_configurations", "whole number from 1 to", ["0", "1e6", "-1"]),
        ("initial_lr", "number above 0", ["0", "-1e-3", "nan", "inf", "1e400", "fast", "1_0", "0,001", "1e31"]),
        ("eta_min", "number of at least 0", ["-1e-9", "nan", "-inf"]),
        ("dropout", "number from 0 to below 1", ["1", "-0.1", "nan", "50%"]),
        ("weight_decay", "number from 0 to 1e30", ["-1", "inf", "none", "1e31"]),
        ("margin", "number from 0 to 1", ["-0.01", "5", "nan", "5%"]),
        ("confidence", "number above 0 and up to 0.9999", ["0", "1", "95", "nan"]),
        ("hidden_dims_search", "whole numbers from 1 to 65536", ["16,,32", "16;32", "64-32", "", " ", "1e3", "0"]),
        ("hidden_dims_search", "like 16,32,64", ["16,", "nan", "[16,32]", "٣", "65537", "9" * 5000, "16\n32", "16,-4"]),
        ("normalization", "give layer or none", ["", "batch", "None"]),
        ("input_normalization", "give layer or none", ["", "on"]),
        ("select", "give best or simplest", ["", "Best", "smallest"]),
        ("scaling", "give robust, percent or none", ["", "minmax"]),
        ("engine", "give auto, compiled, reference or stacked", ["", "jax", "compiled\0"]),
        ("device", "give auto, cpu, cuda or cuda:N", ["", "gpu", "cuda:-1", "cuda:256", "mps", "cpu\n"]),
        ("device", "give --device cpu", ["cuda:99"]),
        ("distributed", "give ray, or leave it out", ["", "Ray", "dask"]),
        ("objectives", "give", ["", "loss", "loss,speed", "params,time", "loss;params"]),
        ("columns", "give copus, numeric, or column names", ["", " , ", "\n"]),
    ]
    for value in values
}  # fmt: skip
ARGUMENTS |= {
    "eta_min above a rate of the study": (
        ["--study", "initial_lr=1e-7,0.001"],
        "--eta_min 1e-06 is above initial_lr 1e-07 of --study",
        "lower it, or leave that out",
    ),
    "eta_min above initial_lr": (["--eta_min", "0.01"], "--eta_min 0.01 is above --initial_lr 0.001", "lower it"),
    **{
        f"study {study!r}": ([f"--study={study}"], f"--study {study!r}: ", remedy)
        for study, remedy in {
            "": "'' is no factor; give some of initial_lr, dropout, weight_decay, normalization, input_normalization",
            "dropout=0,0.1;;normalization=layer,none": "'' is no factor",
            "width=1,2": "'width' is no factor; give some of",
            "Dropout=0,0.1": "'Dropout' is no factor",
            "dropout": "dropout has no values; give some behind an =",
            "dropout=0,0.1 normalization=layer,none": "put a ; between them",
            "dropout=": "give numbers from 0 to below 1",
            "initial_lr=0,0.01": "initial_lr '0': give numbers above 0",
            "dropout=0,1": "dropout '1': give numbers from 0 to below 1",
            "dropout=0,nan": "dropout 'nan': give numbers",
            "dropout=0,1_0": "dropout '1_0': give numbers",
            "dropout=0.1": "one value, so there is nothing to compare; give more, or --dropout 0.1",
            "dropout=0,0.1,0.0": "dropout has 0 twice; leave one out",
            "dropout=0,-0": "dropout has 0 twice; leave one out",
            "dropout=0,0.1; dropout=0,0.2": "dropout comes twice; put all its values behind one =",
            "weight_decay=0,-1": "weight_decay '-1': give numbers from 0 to 1e30",
            "weight_decay=0,1,2,3,4,5,6,7,8,9,10": "weight_decay has 11 values; give at most 10",
            "normalization=layer,batch": "normalization 'batch': give layer or none",
            "input_normalization=none,None": "input_normalization 'None': give layer or none",
        }.items()
    },
    "best of a study without a study": (["--study_configs", "3"], "--study_configs goes with --study", "leave it out"),
    "a study of what halving leaves": (
        ["--study", "dropout=0,0.1", "--search", "halving"], "--search halving leaves gaps", "--study_configs 3",
    ),
    "a study of a value that is not in it": (
        ["--study", "dropout=0,0.1", "--dropout", "0.3"], "--dropout 0.3: --study has only 0, 0.1", "add it there",
    ),
    "a study of more than there are": (
        ["--study", "dropout=0,0.1", "--study_configs", "2"], "--study_configs 2: there are only 1", "give fewer",
    ),
    "a study too large": (
        ["--study", "dropout=0,0.1,0.2", "--max_configurations", "2"],
        "--study: 1 configurations x 3 options are 3, more than --max_configurations 2", "raise it to 3",
    ),
    "a million trainings of a study": (
        ["--study", "dropout=0,0.1", "--study_configs", "1", "--cv_folds", "100", "--repeats", "3334"],
        "--repeats 3334: 3 configurations x 3334 repeats x 100 folds", "give at most 3333",
    ),
    "one fold": (["--cv_folds", "1"], "--cv_folds 1: one fold leaves nothing to train on", "give 2 or more"),
    "simplest of one repeat": (["--select", "simplest"], "--select simplest", "--repeats 2"),
    "compiled on CUDA": (["--engine", "compiled", "--device", "cuda"], "--engine compiled", "--engine stacked"),
    "CUDA on a cluster": (["--distributed", "ray", "--device", "cuda"], "--device 'cuda'", "give cpu"),
    "a cluster's address without a cluster": (["--ray_address", "a:1"], "--ray_address goes with", "leave it out"),
    **{
        f"address {address!r}": (["--distributed", "ray", f"--ray_address={address}"], "--ray_address ", "host:port")
        for address in ["", "a", "a:", ":1", "a:0", "a:65536", "a:1\n", "ray://a:1", "a b:1", "[::1]", "a:٣"]
    },
    "a stack on a cluster": (["--distributed", "ray", "--engine", "stacked"], "--engine stacked", "--engine compiled"),
    "a million configurations": (
        ["--hidden_dims_search", ",".join(map(str, range(1, 181))), "--max_layers", "3"],
        "--max_layers 3 with 180 widths gives 1004730 configurations, more than --max_configurations 10000",
        "raise it to 1004730",
    ),
    "more configurations than can be counted": (
        ["--hidden_dims_search", ",".join(map(str, range(1, 301))), "--max_layers", "100"],
        "--max_layers 100 with 300 widths gives more than 2147483647 configurations",
        "narrow the search",
    ),
    "ten million trainings": (
        ["--hidden_dims_search", "1,2,3", "--max_layers", "10", "--repeats", "7000", "--cv_folds", "5"],
        "--repeats 7000: 285 configurations x 7000 repeats x 5 folds are more than 1000000 trainings",
        "give at most 701",
    ),
    "a model of billions of parameters": (
        ["--hidden_dims_search", "65536", "--max_layers", "2"], "--hidden_dims_search '65536'", "smaller widths",
    ),
    "a flag without its value": (["--epochs"], "--epochs: give a value", "--help"),
    "an unknown flag": (["--latent-dim", "3"], "unknown argument '--latent-dim'", "did you mean --latent_dim?"),
    "an unknown flag with line breaks": (["--a\nb"], "unknown argument '--a\\nb'", "--help"),
    "a switch with a value": (["--quiet=yes"], "argument --quiet", "--help"),
    "a stray word": (["latent"], "unexpected 'latent'", "quotes"),
    "widths that the shell took apart": (["--objectives", "loss,params", "time"], "unexpected 'time'", "quotes"),
    "no such file": (["--data_path", "no.csv"], "--data_path 'no.csv': there is no such file", "no such file"),
    "a file name that no file can have": (["--data_path", "a\0.csv"], "--data_path 'a\\x00.csv'", "no such file"),
    "a file name of 5000 letters": (["--data_path", "x" * 5000], "--data_path 'xxx", "no such file"),
    "no such model": (["--init_from", "no.pth"], "--init_from 'no.pth': there is no such file", "no such file"),
    "no model": (["--init_from", ""], "--init_from ''", "give a file that --save_models wrote"),
    "a folder for a model": (["--init_from", "."], "--init_from '.' is a folder", "that --save_models wrote"),
    "a model's name that no file can have": (["--init_from", "a\0.pth"], "--init_from 'a\\x00.pth'", "no such file"),
    "a model's name that is not text": (["--init_from", "\udcff"], "--init_from '\\udcff': not valid UTF-8", "rename"),
    "something else for a model": (
        ["--init_from", str(SAMPLE_PATH)],
        f"--init_from {str(SAMPLE_PATH)!r}: not a PyTorch file",
        "give a .pth that this program wrote",
    ),
    "something else for a model, in a roundabout way": (
        ["--init_from", f"{SAMPLE_PATH.parent}/./sample.csv"],
        f"--init_from '{SAMPLE_PATH.parent}/./sample.csv': not a PyTorch file",
        "give a .pth that this program wrote",
    ),
    "a frozen encoder of its own scaling": (
        ["--init_from", str(SAMPLE_PATH), "--freeze_encoder", "--scaling", "robust"], "--scaling: with", "leave it out",
    ),
    "a study of a frozen encoder": (
        ["--init_from", str(SAMPLE_PATH), "--freeze_encoder", "--study", "normalization=layer,none"],
        "--study: with --freeze_encoder the encoder keeps its own normalization", "leave that factor out",
    ),
    "a frozen encoder with asymmetric halves": (
        ["--init_from", str(SAMPLE_PATH), "--freeze_encoder", "--arrangement", "asymmetric"],
        "--arrangement asymmetric: with --freeze_encoder", "leave it out",
    ),
    "no file name": (["--data_path", ""], "--data_path ''", "give a file"),
    "a folder for a file": (["--data_path", "."], "--data_path '.' is a folder", "give a file (.csv"),
    "a file name that is not text": (["--data_path", "\udcff.csv"], "--data_path '\\udcff.csv'", "not valid UTF-8"),
    "a label that is not text": (["--label_column", "\udcff"], "--label_column '\\udcff': not valid UTF-8", "rename"),
}  # fmt: skip


@pytest.mark.parametrize("case", ARGUMENTS)
def test_bad_argument_is_refused(tmp_path: Path, case: str) -> None:
    arguments, beginning, remedy = ARGUMENTS[case]
    message = assert_refused(tmp_path, *arguments)
    assert message.startswith(beginning)
    assert remedy in message.removeprefix(beginning.rstrip()) or remedy in beginning


@pytest.mark.parametrize("case", ["", " ", "nul\0", "file", "file/below", "\udcff"])
def test_bad_output_dir_is_refused(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        hyperparam_optimizer.main([*TINY, "--output_dir", case])
    assert exit_.value.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_several_bad_arguments_are_one_line_each(tmp_path: Path) -> None:
    done = run(tmp_path / "new", "--epochs", "0", "--dropout", "2", "--data_path", "no.csv", "--lr", "1")
    assert done.status == 2
    assert [line.split()[2] for line in done.err.splitlines()] == ["unknown", "--epochs", "--dropout", "--data_path"]
    assert not (tmp_path / "new").exists()


# --- Sound files, and arguments that do not fit them ------------------------------------------------

# id: the arguments, and parts of the one line. The table has 7 instructors of 3 rows (the last of 2), 2 labels,
# one Country, and a Key for each row; School has 2 values, of 19 rows and of 1.
MISFITS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "a label column that is not there": (["--label_column", "bclusters"], ("--label_column", "closest: 'Bcluster'")),
    "a label column without name": (["--label_column", ""], ("--label_column: no column ''", "there are: 'Instr")),
    "a group column that is not there": (["--group_column", "Teacher"], ("--group_column: no column 'Teacher'",)),
    "a stratify column that is not there": (["--stratify_column", "x\ny"], ("--stratify_column: no column 'x\\ny'",)),
    "a label that is a feature": (["--label_column", "L"], ("'L' is both --label_column and a feature", "take it out")),
    "a group that is a feature": (["--group_column", "WG"], ("'WG' is both --group_column and a feature",)),
    "a stratum that is a feature": (["--stratify_column", "CG"], ("'CG' is both --stratify_column and a feature",)),
    "one column for both": (
        ["--group_column", "Bcluster", "--stratify_column", "Bcluster"], ("both --group_column and --stratify_column",),
    ),
    "one group": (["--group_column", "Country"], ("all 20 rows have the same value", "choose another column")),
    "a group for each row": (["--group_column", "Key"], ("no two of the 20 rows share a value", "leave the flag out")),
    "two groups": (["--group_column", "School"], ("its 2 groups", "more groups or leave the flag out")),
    "one stratum": (["--stratify_column", "Country"], ("all 20 rows have the same value", "choose another column")),
    "a stratum for each row": (["--stratify_column", "Key"], ("no two of the 20 rows share a value",)),
    "strata too small": (["--stratify_column", "Instructor ID"], ("no value is in more than 3 rows", "5 rows or more")),
    "more folds than rows": (["--cv_folds", "17"], ("--cv_folds 17: more folds than rows", "at most --cv_folds 16")),
    "more folds than groups": (
        ["--cv_folds", "9", "--group_column", "Instructor ID"], ("--cv_folds 9: more folds than groups", "at most"),
    ),
    "more folds than a stratum has rows": (
        ["--cv_folds", "12", "--stratify_column", "Bcluster"], ("--cv_folds 12: more folds than rows of the",),
    ),
    "a feature that is not there": (["--columns", "L,Indd"], ("no column 'Indd'", "closest: 'Ind'")),
    "a feature twice": (["--columns", "L,WG,L"], ("names the column 'L' twice",)),
    "a feature of text": (["--columns", "L,Bcluster"], ("row 2, column 'Bcluster': 'Mostly lecture' is not a number",)),
    "features on two lines": (["--columns", "L\nWG"], ("no column 'L WG'", "closest:")),
    "features between semicolons": (["--columns", "L;WG"], ("no column 'L;WG'", "closest: ")),
    "a feature with a NUL byte": (["--columns", "L\0"], ("no column 'L\\x00'", "there are: ")),
    "a feature of 200,000 letters": (["--columns", "x" * 200_000], ("--columns 'xxxx", "xxx…'", "field larger than")),
    "nothing but commas and quotes": (["--columns", '"",'], ("names no column", "give copus, numeric")),
    "codes among other columns": (["--columns", "COPUS"], ("no column 'COPUS'",)),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_argument_that_does_not_fit_the_table_is_refused(tmp_path: Path, case: str) -> None:
    arguments, parts = MISFITS[case]
    frame = copus_frame().assign(Country="here", Key=[f"k{i}" for i in range(N)], School=["a"] * (N - 1) + ["b"])
    message = assert_refused(tmp_path, "--data_path", write(frame, tmp_path / "a.csv"), *arguments)
    assert [part for part in parts if part not in message] == []
    assert len(message) < 1000
