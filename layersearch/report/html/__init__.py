"""The results as one HTML page.

`page.py` makes the page from its sections, `verdict.py`, `table.py`, `pictures.py` and `run.py` the plain values that
each section shows. `templates/` has the HTML: `page.html.j2`, a file for each section, and `macros.html.j2` for what
several sections use. `page.css` and `page.js` are put into the page.

A new section needs a template and a line in `page.html_report`.
"""
