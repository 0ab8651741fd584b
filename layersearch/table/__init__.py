"""Reading tables of observations: files, columns, cells and the split of the rows.

`formats.py` opens a table, whole or piece by piece; each format has a file of its own (`delimited.py`, `excel.py`,
`parquet.py`) and all keep the bounds in `limits.py`. `columns.py` chooses the features among a table's columns,
`checks.py` turns their cells into numbers, `copus.py` knows the codes of the COPUS protocol, and `splits.py` divides
the rows into training, test and validation sets and folds. `COPUSDataset` (dataset.py) puts these together.

A new format gets a file with one function like `open_parquet` and its suffix in `formats.OPENERS`.
"""
