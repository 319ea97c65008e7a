"""Vector code of matrix products for Numba, whose sums stay in registers.

Arrays are flat; places are indices into them, unchecked. `VECTOR` numbers are computed with at once.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

VECTOR = 16
_FEATURES = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
_WIDE = "+avx512f" in _FEATURES
HALVES = "+avx512bf16" in _FEATURES  # whether there are products of bfloat16
# rows of a product whose sums stay in registers, and the widths of weights that it takes, the widest first
ROWS, WIDTHS = (14, (2 * VECTOR, VECTOR)) if _WIDE else (6, (VECTOR,))

KIND = ir.VectorType(ir.FloatType(), VECTOR)
HALF = ir.VectorType(ir.IntType(16), VECTOR)
WORD = ir.IntType(64)
_BITS = ir.VectorType(ir.IntType(32), VECTOR)


class Memory:
    """Vectors of one flat array from a place on; numbers in int16 are bfloat16, and computed with as float32."""

    def __init__(self, context, builder: ir.IRBuilder, kind, array, place):
        self.builder, self.halves = builder, kind.dtype == types.int16
        self.pointer = builder.gep(context.make_array(kind)(context, builder, array).data, [place])

    def at(self, place, kind=None):
        """Pointer to the vector at `place` more."""
        kind = kind or (HALF if self.halves else KIND)
        return self.builder.bitcast(self.builder.gep(self.pointer, [place]), kind.as_pointer())

    def load(self, place):
        value = self.builder.load(self.at(place), align=2 if self.halves else 4)
        return widen(self.builder, value) if self.halves else value

    def store(self, value, place):
        if self.halves:
            self.store_halves(value, place)
        else:
            self.builder.store(value, self.at(place), align=4)

    def store_halves(self, value, place):
        """Store as bfloat16, whatever numbers the array has."""
        self.builder.store(narrow(self.builder, value), self.at(place, HALF), align=2)

    def square(self, side: int, down, across) -> list[list]:
        """Read side x side vectors, `down` between rows and `across` between columns."""
        return [[self.load(self._place(i, down, j, across)) for j in range(side)] for i in range(side)]

    def store_square(self, square: list[list], down, across, store=None) -> None:
        for i, row in enumerate(square):
            for j, value in enumerate(row):
                (store or self.store)(value, self._place(i, down, j, across))

    def _place(self, i: int, down, j: int, across):
        b = self.builder
        return b.add(b.mul(down, constant(i)), b.mul(across, constant(j)))


def widen(builder, halves):
    """bfloat16 as float32."""
    return builder.bitcast(builder.shl(builder.zext(halves, _BITS), _word(16)), KIND)


def narrow(builder, value):
    """float32 as bfloat16, the nearest, of two the even one."""
    function = _halves_intrinsic(builder, "cvtneps2bf16", ir.FunctionType(HALF, [KIND]))
    return builder.call(function, [value])


def _halves_intrinsic(builder, name: str, kind: ir.FunctionType):
    if not HALVES:
        raise NotImplementedError("this processor has no instructions for bfloat16")
    return builder.module.declare_intrinsic(f"llvm.x86.avx512bf16.{name}.512", (), kind)


def pair(builder, first, second):
    """Two vectors as one of words, each two numbers in bfloat16."""
    low, high = (builder.zext(narrow(builder, value), _BITS) for value in (first, second))
    return builder.bitcast(builder.or_(low, builder.shl(high, _word(16))), KIND)


def _word(value: int):
    return ir.Constant(_BITS, [value] * VECTOR)


def constant(value: int):
    return ir.Constant(WORD, value)


def product(width: int):
    """Make the product of ROWS rows and `width` columns, whose sums stay in registers."""
    vectors = width // VECTOR

    @intrinsic
    def multiply(typing_context, like, v, place, pitch, count, u, start, m, target, more):
        """Multiply ROWS rows of v by the matrix (count, width) of u into m (ROWS, width), or add if `more`.

        v holds the first VECTOR of the `count` numbers of each row, one row after the other; the next ones are `pitch`
        further on. The last ones end with the last number, so they may begin with some of those before. Where `like`
        is an array of bfloat16 (int16), what is a number above is two of them, their two products are added, and v
        holds VECTOR / 2 together.
        """
        halves = like.dtype == types.int16

        def build(context, builder, signature, arguments):
            _, v, place, pitch, count, u, start, m, target, more = arguments
            maps = Memory(context, builder, signature.args[1], v, place)
            weights = Memory(context, builder, signature.args[5], u, start)
            results = Memory(context, builder, signature.args[7], m, target)
            sums = _sums(builder, results, more, vectors)
            together, add = (VECTOR // 2, _add_pairs) if halves else (VECTOR, _add)
            _accumulate(builder, maps, weights, pitch, count, together, sums, add)
            for i, total in enumerate(sums):
                results.store(builder.load(total), constant(i * VECTOR))
            return context.get_dummy_value()

        word = types.intp
        return types.void(like, v, word, word, word, u, word, m, word, types.boolean), build

    return multiply


def _sums(builder, results: Memory, more, vectors: int) -> list:
    """Registers for the sums, row by row: what m holds, or 0."""
    sums = [cgutils.alloca_once(builder, KIND) for _ in range(ROWS * vectors)]
    with builder.if_else(more) as (then, otherwise):
        with then:
            for i, total in enumerate(sums):
                builder.store(results.load(constant(i * VECTOR)), total)
        with otherwise:
            for total in sums:
                builder.store(ir.Constant(KIND, [0.0] * VECTOR), total)
    return sums


def _accumulate(builder, maps: Memory, weights: Memory, pitch, count, together: int, sums: list, add) -> None:
    """Add the products of all `count` numbers of each row."""
    vectors = len(sums) // ROWS
    blocks = builder.sdiv(builder.add(count, constant(together - 1)), constant(together))
    repeated = builder.sub(builder.mul(blocks, constant(together)), count)
    row = cgutils.alloca_once_value(builder, weights.pointer)
    with cgutils.for_range(builder, blocks) as block:
        is_last = builder.icmp_signed("==", block.index, builder.sub(blocks, constant(1)))
        numbers = builder.gep(maps.pointer, [builder.mul(block.index, pitch)])
        first = builder.select(is_last, repeated, constant(0))
        with cgutils.for_range(builder, constant(together), start=first) as number:
            weights.pointer = builder.load(row)
            factors = [weights.load(constant(n * VECTOR)) for n in range(vectors)]
            for r in range(ROWS):
                place = builder.add(number.index, constant(r * together))
                value = _fill(builder, builder.load(builder.gep(numbers, [place]), align=4))
                for n, factor in enumerate(factors):
                    total = sums[r * vectors + n]
                    builder.store(add(builder, builder.load(total), value, factor), total)
            builder.store(builder.gep(weights.pointer, [constant(vectors * VECTOR)]), row)


def _add(builder, total, x, y):
    """total + x * y."""
    return builder.fadd(builder.fmul(x, y, flags=("contract",)), total, flags=("contract",))


def _add_pairs(builder, total, x, y):
    """total + x * y, where each number of x and y is two of bfloat16, whose products are added."""
    function = _halves_intrinsic(builder, "dpbf16ps", ir.FunctionType(KIND, [KIND, _BITS, _BITS]))
    return builder.call(function, [total, builder.bitcast(x, _BITS), builder.bitcast(y, _BITS)])


def _fill(builder, value):
    undefined, word = ir.Constant(KIND, ir.Undefined), ir.IntType(32)
    one = builder.insert_element(undefined, value, ir.Constant(word, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(word, VECTOR), [0] * VECTOR))


@intrinsic
def transpose(typing_context, x, place, pitch, y, target, apart):
    """Copy VECTOR x VECTOR numbers, rows `pitch` apart in x, to y with rows and columns exchanged, `apart` there."""

    def build(context, builder, signature, arguments):
        x, place, pitch, y, target, apart = arguments
        source = Memory(context, builder, signature.args[0], x, place)
        rows = [source.load(builder.mul(pitch, constant(r))) for r in range(VECTOR)]
        for row, value in enumerate(_exchanged(builder, rows)):
            there = builder.add(target, builder.mul(apart, constant(row)))
            Memory(context, builder, signature.args[3], y, there).store(value, constant(0))
        return context.get_dummy_value()

    word = types.intp
    return types.void(x, word, word, y, word, word), build


def _exchanged(builder, rows: list) -> list:
    """Transpose a square of vectors: blocks of 1, 2, 4 ... numbers change places with those across the diagonal."""
    size = 1
    while size < VECTOR:
        low = [i if not i & size else i - size + VECTOR for i in range(VECTOR)]
        high = [i + size if not i & size else i + VECTOR for i in range(VECTOR)]
        masks = [ir.Constant(ir.VectorType(ir.IntType(32), VECTOR), mask) for mask in (low, high)]
        pairs = [(i, i + size) for i in range(VECTOR) if not i & size]
        for i, j in pairs:
            rows[i], rows[j] = (builder.shuffle_vector(rows[i], rows[j], mask) for mask in masks)
        size *= 2
    return rows
