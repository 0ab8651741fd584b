"""Everything that a search leaves behind, in words and numbers.

`publish.py` writes all files at once. `results.py` holds the JSON and the closing summary, `statement.py` the verdict
in words, `study.py` the study in words and numbers, `tables.py` the CSV files, `methods.py` the methods section, and
`references.py` with `references.bib` its bibliography. `html/` is the report page: templates, and the values that they
show. `output_files.py` names the files.
"""
