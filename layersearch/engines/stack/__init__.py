"""The stacked engine: many trials of one depth as one module, for GPUs.

`plan.py` decides which trials share a stack, `model.py` is the module, `step.py` one training step and its CUDA graph,
and `engine.py` trains stacks from their first epoch to their results and checks itself on a device.
"""
