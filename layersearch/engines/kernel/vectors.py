"""Vectors of LLVM with Python's operators, for inner loops that LLVM does not vectorise well by itself.

    @vector_function(types.int64, types.int64, types.float32)
    def scale(code, X, Y, factor):
        code.store(code.load(X, 16) * factor, Y)

makes `scale(X, Y, factor)` callable in a Numba function. The body runs once, at compile time, and emits the
instructions; LLVM maps the vectors to the registers of the processor. Addresses are int64 and count bytes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

FLOAT_BYTES = 4
FLOAT, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FAST = ("contract", "arcp", "nsz", "afn")  # a product and a sum may become one FMA; sums keep their order


class Lanes:
    """A scalar or vector of float32, int32 or int64; operators are elementwise, and scalars are broadcast."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder = builder
        self.value = value
        self.lanes = getattr(value.type, "count", None)  # None for a scalar
        self.kind = value.type if self.lanes is None else value.type.element

    def __add__(self, other: Lanes | float) -> Lanes:
        return self._combine("fadd", "add", other)

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self._combine("fsub", "sub", other)

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self._combine("fmul", "mul", other)

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return self._combine("fdiv", "sdiv", other)

    def __xor__(self, other: Lanes | float) -> Lanes:
        return self._combine("", "xor", other)

    def __and__(self, other: Lanes | float) -> Lanes:
        return self._combine("", "and_", other)

    def __rshift__(self, other: Lanes | float) -> Lanes:
        return self._combine("", "lshr", other)

    def __gt__(self, other: Lanes | float) -> Lanes:
        left, right = self._matched(other)
        compare = self.builder.fcmp_ordered if self.kind == FLOAT else self.builder.icmp_signed
        return Lanes(self.builder, compare(">", left.value, right.value))

    def __lt__(self, other: Lanes | float) -> Lanes:
        left, right = self._matched(other)
        return right > left

    def equals(self, other: int) -> Lanes:
        """Returns the condition that an integer scalar has this value."""
        return Lanes(self.builder, self.builder.icmp_signed("==", self.value, ir.Constant(self.kind, other)))

    def splat(self, lanes: int) -> Lanes:
        """Returns a vector with this scalar in every lane."""
        undefined = ir.Constant(ir.VectorType(self.kind, lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, self.value, ir.Constant(INT32, 0))
        zeros = ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes)
        return Lanes(self.builder, self.builder.shuffle_vector(first, undefined, zeros))

    def _matched(self, other: Lanes | float) -> tuple[Lanes, Lanes]:
        """Returns both operands with the same number of lanes."""
        if not isinstance(other, Lanes):
            other = Lanes(self.builder, ir.Constant(self.kind, other))
        if self.lanes and not other.lanes:
            return self, other.splat(self.lanes)
        if other.lanes and not self.lanes:
            return self.splat(other.lanes), other
        return self, other

    def _combine(self, float_name: str, integer_name: str, other: Lanes | float) -> Lanes:
        left, right = self._matched(other)
        if self.kind == FLOAT:
            return Lanes(self.builder, getattr(self.builder, float_name)(left.value, right.value, flags=FAST))
        return Lanes(self.builder, getattr(self.builder, integer_name)(left.value, right.value))


class Variable:
    """A variable that can be changed in a loop."""

    def __init__(self, code: Code, start: Lanes) -> None:
        self.code = code
        self.pointer = cgutils.alloca_once_value(code.builder, start.value)
        self.type = start.value.type

    def get(self) -> Lanes:
        """Returns its current value."""
        return Lanes(self.code.builder, self.code.builder.load(self.pointer, typ=self.type))

    def set(self, value: Lanes) -> None:
        """Sets its value."""
        self.code.builder.store(value.value, self.pointer)


class Code:
    """Emits the instructions of a vector function at the place where it is called."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def vector(self, kind: ir.Type, values: list[float]) -> Lanes:
        """Returns a constant vector."""
        return Lanes(self.builder, ir.Constant(ir.VectorType(kind, len(values)), values))

    def load(self, address: Lanes, lanes: int | None = None, mask: Lanes | None = None) -> Lanes:
        """Loads a float32 number, or a vector of `lanes` numbers, which are 0 where the optional `mask` is false."""
        if lanes is None:
            return Lanes(self.builder, self.builder.load(self._pointer(address, FLOAT), typ=FLOAT))
        vector = ir.VectorType(FLOAT, lanes)
        if mask is None:
            return Lanes(self.builder, self.builder.load(self._pointer(address, vector), typ=vector, align=4))
        arguments = [
            self._pointer(address, vector),
            ir.Constant(INT32, 4),
            mask.value,
            ir.Constant(vector, [0.0] * lanes),
        ]
        return self._call(f"llvm.masked.load.v{lanes}f32.p0", vector, arguments)

    def store(self, value: Lanes, address: Lanes, mask: Lanes | None = None) -> None:
        """Stores float32 numbers at an address, those where the optional `mask` is true."""
        pointer = self._pointer(address, value.value.type)
        if mask is None:
            self.builder.store(value.value, pointer, align=4)
            return
        arguments = [value.value, pointer, ir.Constant(INT32, 4), mask.value]
        self._call(f"llvm.masked.store.v{value.lanes}f32.p0", ir.VoidType(), arguments)

    def variable(self, start: Lanes) -> Variable:
        """Returns a variable with this initial value."""
        return Variable(self, start)

    @contextmanager
    def loop(self, n: Lanes) -> Iterator[Lanes]:
        """Runs the body of the `with` block `n` times, and yields the number of the iteration, from 0."""
        with cgutils.for_range(self.builder, n.value) as loop:
            yield Lanes(self.builder, loop.index)

    @contextmanager
    def when(self, condition: Lanes) -> Iterator[None]:
        """Runs the body of the `with` block if a scalar condition holds."""
        with self.builder.if_then(condition.value):
            yield

    def to_float(self, n: Lanes) -> Lanes:
        """Converts an integer to float32."""
        return Lanes(self.builder, self.builder.sitofp(n.value, FLOAT))

    def to_int32(self, n: Lanes) -> Lanes:
        """Returns the lower 32 bits of an int64."""
        return Lanes(self.builder, self.builder.trunc(n.value, INT32))

    def sqrt(self, x: Lanes) -> Lanes:
        """Returns the square root of each lane."""
        return self._call(f"llvm.sqrt.v{x.lanes}f32", x.value.type, [x.value])

    def sum(self, x: Lanes) -> Lanes:
        """Returns the sum of all lanes."""
        arguments = [ir.Constant(FLOAT, 0.0), x.value]
        return self._call(f"llvm.vector.reduce.fadd.v{x.lanes}f32", FLOAT, arguments, flags=("reassoc",))

    def select(self, condition: Lanes, yes: Lanes, no: Lanes) -> Lanes:
        """Returns `yes` in the lanes in which the condition holds, and `no` in the others."""
        return Lanes(self.builder, self.builder.select(condition.value, yes.value, no.value))

    def shuffle(self, a: Lanes, b: Lanes, order: list[int]) -> Lanes:
        """Returns the lanes with these numbers of the concatenation of `a` and `b`."""
        indices = ir.Constant(ir.VectorType(INT32, len(order)), order)
        return Lanes(self.builder, self.builder.shuffle_vector(a.value, b.value, indices))

    def _pointer(self, address: Lanes, kind: ir.Type) -> ir.Value:
        return self.builder.inttoptr(address.value, kind.as_pointer())

    def _call(self, name: str, result: ir.Type, arguments: list[ir.Value], flags: tuple[str, ...] = ()) -> Lanes:
        function = ir.FunctionType(result, [argument.type for argument in arguments])
        declared = cgutils.get_or_insert_function(self.builder.module, function, name)
        return Lanes(self.builder, self.builder.call(declared, arguments, fastmath=flags))


def vector_function(*kinds: types.Type) -> Callable[[Callable[..., None]], Any]:
    """Turns a function `build(code, *arguments)` that emits instructions into one that Numba functions can call.

    `kinds` are the Numba types of the arguments, which `build` receives as `Lanes`.
    """

    def decorate(build: Callable[..., None]) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            build(Code(builder), *(Lanes(builder, value) for value in arguments))
            return context.get_dummy_value()

        def typed(typingctx: Any, *arguments: Any) -> Any:
            return types.void(*kinds), generate

        vars(typed)["__signature__"] = inspect.signature(build)  # `code` stands for `typingctx`
        return intrinsic(typed)

    return decorate


def _address(typingctx: Any, array: Any, offset: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        first = builder.ptrtoint(data, INT64)
        return builder.add(first, builder.mul(arguments[1], ir.Constant(INT64, FLOAT_BYTES)))

    return types.int64(array, types.int64), generate


address: Any = intrinsic(_address)  # address(array, n): the address of element n of a flattened float32 array


def caller(function: Callable[..., None], kinds: Sequence[Any]) -> Any:
    """Returns `call(address, ...)`, which calls the native function at an address, compiled from `function`.

    The native function, whose arguments have the Numba types `kinds`, must exist as long as it may be called.
    """

    def typed(typingctx: Any, *arguments: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> ir.Value:
            native = ir.FunctionType(ir.VoidType(), [value.type for value in values[1:]])
            builder.call(builder.inttoptr(values[0], native.as_pointer()), values[1:])
            return context.get_dummy_value()

        return types.void(types.int64, *kinds), generate

    given = inspect.signature(function)
    first = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("typingctx", "native")]
    vars(typed)["__signature__"] = given.replace(parameters=[*first, *given.parameters.values()])
    return intrinsic(typed)
