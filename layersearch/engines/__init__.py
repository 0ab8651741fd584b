"""The engines, which train the trials of a search on CPU cores, on a GPU or on a cluster.

`settings.py` defines the settings common to all trainings, and `lifecycle.py` the parts common to all engines: initial
weights, checkpoints and results. The engines are `reference.py` (plain PyTorch, the definition of correct results),
`compiled.py` with `kernel/` (one trial on each CPU core) and `stack/` (many trials at a time on a GPU). `dispatch.py`
selects an engine by name, and `choice.py` the one that suits the machine. `workers.py` trains on threads and
`machines.py` on a Ray cluster; `training.py` combines them with the journal. `weights.py` starts trainings from a saved
model.

To add an engine, write a function `(table, settings, checkpoints) -> Trainer`, add a line to `dispatch.make_trainer`,
and include it in the parity tests in `tests/engines/test_training.py`.
"""
