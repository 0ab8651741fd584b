"""Reads tables of observations: files, columns, cells and the split of the rows.

`formats.py` opens a table, whole or piece by piece; each format has its own file (`delimited.py`, `excel.py`,
`parquet.py`), and all respect the bounds in `limits.py`. `columns.py` chooses the features among a table's columns,
`checks.py` turns their cells into numbers, `copus.py` holds the codes of the COPUS protocol, and `splits.py` divides
the rows into training, test and validation sets and folds. `COPUSDataset` (dataset.py) combines these.

To add a format, add a file with one function like `open_parquet` and the suffix to `formats.OPENERS`.
"""
