"""The search space: configurations of hidden layers, their trials, and the ranking of their results.

`configurations.py` defines what a configuration is and which a space holds, `naming.py` how configurations are named.
`factors.py` adds the training options that a study varies. `trials.py` turns configurations into single trainings, and
`ranking.py` the results of these back into a ranking. A new arrangement of layers is added to `Space` in
`configurations.py`.
"""
