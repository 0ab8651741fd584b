"""The subpackages of the program, in the order in which the data pass through them (docs/how_it_works.md).

`command` reads the arguments, `table` and `loading` read the data, `space` defines the configurations, `engines` train
them, `journal` records their results, `search` decides which is trained next, `verdict` compares them, `latent`
analyses the best model, and `pictures` and `report` present the results. `options.py` declares every option.
"""
