"""Trains the trials of a search, on whatever is there to train on.

`settings.py` holds what all trainings share and `lifecycle.py` what every engine does alike: initial weights,
checkpoints, results. The engines are `reference.py` (plain PyTorch; it defines what is right), `compiled.py` with
`kernel/` (the CPU, one trial on each core) and `stack/` (GPUs, many trials at a time). `dispatch.py` selects one by its
name, `choice.py` the one that suits this machine. `workers.py` trains on threads, `machines.py` on a Ray cluster, and
`training.py` puts it all together with the journal. `weights.py` starts trainings from a saved model.

A new engine is a function `(table, settings, checkpoints) -> Trainer` with a line in `dispatch.make_trainer`, and it
joins the parity tests in `tests/engines/test_training.py`.
"""
