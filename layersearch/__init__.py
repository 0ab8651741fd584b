"""The rooms of the program, along the way of the data; docs/how_it_works.md draws them.

`command` reads what is asked for, `table` and `loading` read the data, `space` says what there is to try, `engines`
train it, `journal` keeps it, `search` decides what is trained next, `verdict` judges it, `latent` examines the best
model, and `pictures` and `report` show it. `options.py` declares every option.
"""
