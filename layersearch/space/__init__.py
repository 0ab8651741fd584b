"""The search space: configurations of hidden layers, their trials, and the ranking of their results.

`configurations.py` defines configurations and the space of them, and `naming.py` how they are named. `factors.py` adds
the training options that a study varies. `trials.py` turns configurations into single trainings, and `ranking.py` turns
their results into a ranking. To add an arrangement of layers, extend `Space` in `configurations.py`.
"""
