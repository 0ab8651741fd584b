"""The stacked engine, which trains many trials of one depth as one module, for GPUs.

`plan.py` decides which trials share a stack, `model.py` defines the module, `step.py` one training step and its CUDA
graph, and `engine.py` trains stacks and checks the engine on a device.
"""
