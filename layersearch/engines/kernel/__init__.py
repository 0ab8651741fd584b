"""The compiled engine's kernel: training steps as machine code for the CPU.

`step.py` is the whole step and derives its formulas; `product.py` has its matrix products and `strips.py` everything
between them. Both are written in `vectors.py`'s LLVM vectors, and `jit.py` compiles and caches them. A new kind
of layer starts as a value of `step.KIND`, with its forward and backward pass in `strips.py`.
"""
