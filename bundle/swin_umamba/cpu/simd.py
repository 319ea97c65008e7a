"""A SIMD value for Numba: `LANES` numbers that a kernel loads, computes with and stores as one.

Numba vectorises loops only when LLVM can prove a good deal about them, and calls libm for exp one number at a time. A
kernel written with these lanes is vector code on every processor: LLVM splits them over the registers that it finds.

`exp2` follows the usual scheme: 2**t = 2**k * 2**f with k = round(t), |f| <= 1/2, a polynomial for 2**f (float32:
minimax of degree 5, relative error 1.7e-7 with rounding; float64: Taylor of degree 13) and k put straight into the
exponent bits. Arguments below -126.5 (float64: -1022.5) give 0.

`exp2_near` leaves out the bounds: |t| <= NEAR, at which a sixth of the instructions of the whole scan is saved.
`exp2_coarse` is the same with a polynomial of degree 3, relative error 1e-4, for results that are rounded to half
precision, whose own step is 4e-3 or 5e-4; both polynomials are exact at 0, where long memories are.
"""

from __future__ import annotations

import math
import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from .lanes import LANES as LANES

NEAR = 125.0  # largest |t| of exp2_near

_MINIMAX = [
    1.0,
    0.6931469775987168,
    0.24022242084635045,
    0.05550733743574049,
    0.009671512688152879,
    0.0013264727247184957,
]
_COARSE = [1.0, 0.693282927222824, 0.2422109594702073, 0.05500893049241011]  # of 2**f, minimax with 1 at 0
# of log1p(z) / z for 0 <= z <= 1, minimax with 1 at 0, relative error 3.3e-8
_LOG1P = [
    1.0,
    -0.4999964796347889,
    0.33321322618091914,
    -0.24857163668231033,
    0.19153654942047277,
    -0.13753802344765198,
    0.07920453560248343,
    -0.030065792307850607,
    0.005364824333036434,
]
_POWER_OF_E = [c / math.log(2.0) ** k for k, c in enumerate(_MINIMAX)]  # of exp(g) = 2**(g / ln 2)
_TAYLOR = [math.log(2.0) ** k / math.factorial(k) for k in range(14)]
# word size, mantissa bits, exponent bias, polynomial of 2**f, terms of artanh (0: log1p), ln 2 in two parts (k times
# the first is exact)
_FORMATS = {
    types.float32: (32, 23, 127, _MINIMAX, 0, (0.693359375, -2.1219444005469057e-4)),
    types.float64: (64, 52, 1023, _TAYLOR, 18, (0.693147180369123816490, 1.90821492927058770002e-10)),
}


class Lanes(types.Type):
    """Numba type of `LANES` numbers of one floating point type."""

    def __init__(self, real: types.Float):
        self.real = real
        super().__init__(name=f"Lanes({real})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        element = ir.FloatType() if kind.real == types.float32 else ir.DoubleType()
        super().__init__(manager, kind, ir.VectorType(element, LANES))


class Writer:
    """Writes vector instructions; multiply and add may fuse, nothing else is reordered."""

    def __init__(self, builder: ir.IRBuilder, real: types.Float):
        self.builder = builder
        self.bits, self.shift, self.bias, self.power, self.terms, self.ln2 = _FORMATS[real]
        self.element = ir.FloatType() if real == types.float32 else ir.DoubleType()
        self.kind = ir.VectorType(self.element, LANES)
        self.words = ir.VectorType(ir.IntType(self.bits), LANES)

    def constant(self, value: float):
        return ir.Constant(self.kind, [value] * LANES)

    def word(self, value: int):
        return ir.Constant(self.words, [value] * LANES)

    def mul(self, a, b):
        return self.builder.fmul(a, b, flags=("contract",))

    def add(self, a, b):
        return self.builder.fadd(a, b, flags=("contract",))

    def sub(self, a, b):
        return self.builder.fsub(a, b, flags=("contract",))

    def where(self, a, comparison, b, then, otherwise):
        return self.builder.select(self.builder.fcmp_ordered(comparison, a, b), then, otherwise)

    def polynomial(self, x, coefficients):
        value = self.constant(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            value = self.add(self.mul(value, x), self.constant(coefficient))
        return value

    def round(self, t):
        """Return 1.5 * 2**shift + round(t), whose low bits are the integer."""
        lowest, highest = self.constant(-self.bias), self.constant(self.bias + 1)
        t = self.where(t, "<", lowest, lowest, t)  # NaN passes
        t = self.where(t, ">", highest, highest, t)
        return t, self.add(t, self.constant(1.5 * 2.0**self.shift))

    def power_of_two(self, rounded):
        low = self.builder.shl(self.builder.bitcast(rounded, self.words), self.word(self.shift))
        return self.builder.bitcast(self.builder.add(low, self.word(self.bias << self.shift)), self.kind)

    def exp2(self, t):
        t, rounded = self.round(t)
        f = self.sub(t, self.sub(rounded, self.constant(1.5 * 2.0**self.shift)))
        return self.mul(self.polynomial(f, self.power), self.power_of_two(rounded))

    def exp2_near(self, t, coefficients=None):
        magic = self.constant(1.5 * 2.0**self.shift)
        rounded = self.add(t, magic)
        return self.power_near(self.sub(t, self.sub(rounded, magic)), rounded, coefficients or self.power)

    def power_near(self, f, rounded, coefficients):
        """A polynomial of f times the power of two of `rounded`, whose exponent is added to the polynomial's."""
        power = self.polynomial(f, coefficients)
        exponent = self.builder.shl(self.builder.bitcast(rounded, self.words), self.word(self.shift))
        return self.builder.bitcast(self.builder.add(self.builder.bitcast(power, self.words), exponent), self.kind)

    def exp2_coarse(self, t):
        return self.exp2_near(t, _COARSE)

    def near_exp(self, x):
        """exp(x) in float32 for x <= 0; that of -86 below -86."""
        x = self.larger(self.constant(-86.0), x)
        magic = self.constant(1.5 * 2.0**self.shift)
        rounded = self.add(self.mul(x, self.constant(math.log2(math.e))), magic)
        k = self.sub(rounded, magic)
        for part in self.ln2:  # in two parts, so that a large |x| loses nothing
            x = self.sub(x, self.mul(k, self.constant(part)))
        return self.power_near(x, rounded, _POWER_OF_E)

    def larger(self, a, b):
        """b if a or b is no number."""
        return self.where(a, ">", b, a, b)

    def smaller(self, a, b):
        """b if a or b is no number."""
        return self.where(a, "<", b, a, b)

    def silu(self, x):
        """x / (1 + exp(-x)) in float32."""
        zero, one = self.constant(0.0), self.constant(1.0)
        z = self.near_exp(self.smaller(x, self.sub(zero, x)))
        return self.mul(x, self.builder.fdiv(self.where(x, "<", zero, z, one), self.add(one, z)))

    def exp(self, x):
        """exp(x) for x <= 0, reduced in two steps so that a large |x| loses nothing."""
        t, rounded = self.round(self.mul(x, self.constant(math.log2(math.e))))
        k = self.sub(rounded, self.constant(1.5 * 2.0**self.shift))
        f = self.sub(x, self.mul(k, self.constant(self.ln2[0])))
        f = self.sub(f, self.mul(k, self.constant(self.ln2[1])))
        f = self.mul(f, self.constant(math.log2(math.e)))
        f = self.where(k, "<=", self.constant(-self.bias), self.constant(0.0), f)  # 2**k is 0 there
        return self.mul(self.polynomial(f, self.power), self.power_of_two(rounded))

    def small_exp(self, x):
        """exp(-|x|)."""
        zero = self.constant(0.0)
        return self.exp(self.where(x, ">", zero, self.sub(zero, x), x))

    def softplus(self, x):
        """log(1 + exp(x)) = max(x, 0) + log1p(z) with z = exp(-|x|); x itself above 20, as PyTorch's.

        log1p is 2 artanh(z / (2 + z)) in float64; in float32 a polynomial, and sums above 20 round to x by themselves.
        """
        zero = self.constant(0.0)
        least = self.where(x, "<", zero, zero, x)
        if self.terms == 0:
            z = self.near_exp(self.smaller(x, self.sub(zero, x)))
            return self.add(least, self.mul(z, self.polynomial(z, _LOG1P)))
        z = self.small_exp(x)
        s = self.builder.fdiv(z, self.add(self.constant(2.0), z))
        series = self.polynomial(self.mul(s, s), [2.0 / (2 * k + 1) for k in range(self.terms)])
        return self.where(x, ">", self.constant(20.0), x, self.add(least, self.mul(s, series)))

    def sigmoid(self, x):
        """Derivative of `softplus`."""
        z, one = self.small_exp(x), self.constant(1.0)
        value = self.builder.fdiv(self.where(x, "<", self.constant(0.0), z, one), self.add(one, z))
        return self.where(x, ">", self.constant(20.0), one, value)


def _function(method: str, arity: int):
    """Make an intrinsic of lanes out of a method of `Writer`."""

    def typed(typing_context, *lanes):
        def build(context, builder, signature, arguments):
            return getattr(Writer(builder, lanes[0].real), method)(*arguments)

        return lanes[0](*lanes), build

    if arity == 1:
        return intrinsic(lambda typing_context, a: typed(typing_context, a))
    return intrinsic(lambda typing_context, a, b: typed(typing_context, a, b))


exp2, exp2_near, exp2_coarse = (_function(name, 1) for name in ("exp2", "exp2_near", "exp2_coarse"))
softplus, sigmoid, silu = (_function(name, 1) for name in ("softplus", "sigmoid", "silu"))
larger, smaller = _function("larger", 2), _function("smaller", 2)
_mul, _add, _sub = _function("mul", 2), _function("add", 2), _function("sub", 2)


def _fill(builder, value):
    kind = ir.VectorType(value.type, LANES)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), mask)


@intrinsic
def splat(typing_context, value):
    """Fill all lanes with one number."""

    def build(context, builder, signature, arguments):
        return _fill(builder, arguments[0])

    return Lanes(value)(value), build


@intrinsic
def spread(typing_context, array, row, column):
    """Fill all lanes with array[row, column], unchecked."""

    def build(context, builder, signature, arguments):
        view = context.make_array(array)(context, builder, arguments[0])
        pointer = cgutils.get_item_pointer(context, builder, array, view, arguments[1:], wraparound=False)
        return _fill(builder, builder.load(pointer))

    return Lanes(array.dtype)(array, types.intp, types.intp), build


@intrinsic
def total(typing_context, lanes):
    """Sum of all lanes, halves first."""

    def build(context, builder, signature, arguments):
        value, width = arguments[0], LANES
        word = ir.IntType(32)
        while width > 1:
            width //= 2
            high = ir.Constant(ir.VectorType(word, width), list(range(width, 2 * width)))
            low = ir.Constant(ir.VectorType(word, width), list(range(width)))
            value = builder.fadd(builder.shuffle_vector(value, value, low), builder.shuffle_vector(value, value, high))
        return builder.extract_element(value, ir.Constant(word, 0))

    return lanes.real(lanes), build


def _real(array) -> types.Float:
    """Type that numbers of an array have as lanes: int16 holds bfloat16, which NumPy does not know."""
    return types.float32 if array.dtype == types.int16 else array.dtype


def _address(context, builder, array_type, array, row, column):
    view = context.make_array(array_type)(context, builder, array)
    pointer = cgutils.get_item_pointer(context, builder, array_type, view, [row, column], wraparound=False)
    element = context.get_data_type(array_type.dtype)
    return builder.bitcast(pointer, ir.VectorType(element, LANES).as_pointer()), array_type.dtype.bitwidth // 8


def _widen(builder, halves):
    """bfloat16 as float32."""
    writer = Writer(builder, types.float32)
    return builder.bitcast(builder.shl(builder.zext(halves, writer.words), writer.word(16)), writer.kind)


def _narrow(builder, lanes):
    """float32 as bfloat16, the nearest, of two the even one; what is no number stays so."""
    writer = Writer(builder, types.float32)
    bits = builder.bitcast(lanes, writer.words)
    odd = builder.and_(builder.lshr(bits, writer.word(16)), writer.word(1))
    rounded = builder.add(bits, builder.add(odd, writer.word(0x7FFF)))
    bits = builder.select(builder.fcmp_unordered("uno", lanes, lanes), writer.word(0x7FC00000), rounded)
    return builder.trunc(builder.lshr(bits, writer.word(16)), ir.VectorType(ir.IntType(16), LANES))


@intrinsic
def load(typing_context, array, row, column):
    """Read array[row, column : column + LANES] of a C-ordered matrix, unchecked."""

    def build(context, builder, signature, arguments):
        pointer, align = _address(context, builder, array, *arguments)
        value = builder.load(pointer, align=align)
        return _widen(builder, value) if array.dtype == types.int16 else value

    return Lanes(_real(array))(array, types.intp, types.intp), build


@intrinsic
def store(typing_context, array, row, column, lanes):
    """Write array[row, column : column + LANES] of a C-ordered matrix, unchecked."""

    def build(context, builder, signature, arguments):
        pointer, align = _address(context, builder, array, *arguments[:3])
        value = arguments[3]
        builder.store(_narrow(builder, value) if array.dtype == types.int16 else value, pointer, align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, lanes), build


def _operator(symbol, function):
    @overload(symbol, inline="always")
    def implement(a, b):
        return (lambda a, b: function(a, b)) if isinstance(a, Lanes) and isinstance(b, Lanes) else None


for _symbol, _implementation in ((operator.mul, _mul), (operator.add, _add), (operator.sub, _sub)):
    _operator(_symbol, _implementation)
