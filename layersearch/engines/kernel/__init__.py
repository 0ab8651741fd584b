"""The kernel of the compiled engine: training steps as machine code for the CPU.

`step.py` is the whole step and derives its formulas; `product.py` computes its matrix products and `strips.py` the
operations between them. Both use the LLVM vectors of `vectors.py`; `jit.py` compiles and caches the code. To add a
kind of layer, add a value of `step.KIND`, and its forward and backward pass in `strips.py`.
"""
