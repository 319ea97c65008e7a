"""Vector code of Winograd's convolution for Numba: the transforms of a tile, and the product between them.

F(4x4, 3x3): 4x4 results of a 3x3 convolution from 6x6 inputs by 36 products, where the sum itself takes 144. A
polynomial of degree 3 times one of degree 2 is evaluated at 0, +-a, +-b and infinity, once along rows, once along
columns. a = 3/4 and b = 3/2 are exact in binary and lose least: the error's root mean square is 2 times that of the
plain sum in float32, where the usual 1 and 2 make it 4 times (64 channels, normal numbers).

Arrays are flat; places are indices into them, unchecked. `VECTOR` channels are computed with at once.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv 1509.09308.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

VECTOR = 16
TILE, TAPS, POINTS = 4, 3, 6  # results, weights and points along one side
PRODUCTS = POINTS * POINTS
_A, _B = 0.75, 1.5
_A2, _B2 = _A * _A, _B * _B

_WIDE = "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")
# rows of a product whose sums stay in registers, and the widths of weights that it takes, the widest first
ROWS, WIDTHS = (14, (2 * VECTOR, VECTOR)) if _WIDE else (6, (VECTOR,))

_KIND = ir.VectorType(ir.FloatType(), VECTOR)
_WORD = ir.IntType(64)


class Terms:
    """Writes sums and products of vectors; a multiplication and an addition may fuse."""

    def __init__(self, builder: ir.IRBuilder):
        self.builder = builder

    def add(self, x, y):
        return self.builder.fadd(x, y, flags=("contract",))

    def sub(self, x, y):
        return self.builder.fsub(x, y, flags=("contract",))

    def times(self, factor: float, x):
        return self.builder.fmul(ir.Constant(_KIND, [factor] * VECTOR), x, flags=("contract",))

    def more(self, factor: float, x, y):
        """factor * x + y."""
        return self.add(self.times(factor, x), y)

    def inputs(self, d: list) -> list:
        """Six inputs to six points: B^T d."""
        near, odd_near = self.more(-_B2, d[2], d[4]), self.more(-_B2, d[1], d[3])
        far, odd_far = self.more(-_A2, d[2], d[4]), self.more(-_A2, d[1], d[3])
        zero = self.more(_A2 * _B2, d[0], self.more(-_A2 - _B2, d[2], d[4]))
        infinity = self.more(_A2 * _B2, d[1], self.more(-_A2 - _B2, d[3], d[5]))
        pairs = [self.more(s, odd, even) for odd, even, s in (
            (odd_near, near, _A), (odd_near, near, -_A), (odd_far, far, _B), (odd_far, far, -_B))]  # fmt: skip
        return [zero, *pairs, infinity]

    def weights(self, g: list) -> list:
        """Three weights to six points: G g, divided by the product of each point's distances to the others."""
        values = [self.times(1 / (_A2 * _B2), g[0])]
        for p, q in ((_A, _B), (_B, _A)):
            share = 1 / (2 * p * p * (p * p - q * q))
            even = self.more(p * p * share, g[2], self.times(share, g[0]))
            values += [self.more(p * share, g[1], even), self.more(-p * share, g[1], even)]
        return [*values, g[2]]

    def outputs(self, m: list) -> list:
        """Six points to four results: A^T m."""
        near, odd_near = self.add(m[1], m[2]), self.sub(m[1], m[2])
        far, odd_far = self.add(m[3], m[4]), self.sub(m[3], m[4])
        return [
            self.add(m[0], self.add(near, far)),
            self.more(_A, odd_near, self.times(_B, odd_far)),
            self.more(_A2, near, self.times(_B2, far)),
            self.add(self.more(_A * _A2, odd_near, self.times(_B * _B2, odd_far)), m[5]),
        ]

    @staticmethod
    def both_ways(transform, square: list[list]) -> list[list]:
        """Apply a transform to the columns of a square, then to its rows."""
        columns = [transform([row[j] for row in square]) for j in range(len(square[0]))]
        return [transform([column[i] for column in columns]) for i in range(len(columns[0]))]


class Memory:
    """Vectors of one flat array from a place on."""

    def __init__(self, context, builder: ir.IRBuilder, kind, array, place):
        self.builder = builder
        self.pointer = builder.gep(context.make_array(kind)(context, builder, array).data, [place])

    def at(self, place):
        """Pointer to the vector at `place` more."""
        return self.builder.bitcast(self.builder.gep(self.pointer, [place]), _KIND.as_pointer())

    def load(self, place):
        return self.builder.load(self.at(place), align=4)

    def store(self, value, place):
        self.builder.store(value, self.at(place), align=4)

    def square(self, side: int, down, across) -> list[list]:
        """Read side x side vectors, `down` between rows and `across` between columns."""
        return [[self.load(self._place(i, down, j, across)) for j in range(side)] for i in range(side)]

    def store_square(self, square: list[list], down, across) -> None:
        for i, row in enumerate(square):
            for j, value in enumerate(row):
                self.store(value, self._place(i, down, j, across))

    def _place(self, i: int, down, j: int, across):
        b = self.builder
        return b.add(b.mul(down, _constant(i)), b.mul(across, _constant(j)))


def _constant(value: int):
    return ir.Constant(_WORD, value)


@intrinsic
def transform_inputs(typing_context, x, place, down, across, v, target, apart):
    """Transform VECTOR channels of 6x6 pixels of x, `down` between rows, `across` between columns; 36 to v."""

    def build(context, builder, signature, arguments):
        x, place, down, across, v, target, apart = arguments
        terms = Terms(builder)
        square = Memory(context, builder, signature.args[0], x, place).square(POINTS, down, across)
        points = terms.both_ways(terms.inputs, square)
        _store_points(Memory(context, builder, signature.args[4], v, target), points, apart)
        return context.get_dummy_value()

    word = types.intp
    return types.void(x, word, word, word, v, word, word), build


@intrinsic
def transform_weights(typing_context, w, place, across, u, target, apart):
    """Transform VECTOR filters' 3x3 weights of w, `across` between one weight and the next; 36 to u."""

    def build(context, builder, signature, arguments):
        w, place, across, u, target, apart = arguments
        terms = Terms(builder)
        down = builder.mul(across, _constant(TAPS))
        square = Memory(context, builder, signature.args[0], w, place).square(TAPS, down, across)
        points = terms.both_ways(terms.weights, square)
        _store_points(Memory(context, builder, signature.args[3], u, target), points, apart)
        return context.get_dummy_value()

    word = types.intp
    return types.void(w, word, word, u, word, word), build


@intrinsic
def transform_outputs(typing_context, m, place, apart, bias, column, y, target, down, across):
    """Transform 36 products of m, `apart` from each other, and add VECTOR biases from a column on; 4x4 pixels to y."""

    def build(context, builder, signature, arguments):
        m, place, apart, bias, column, y, target, down, across = arguments
        terms = Terms(builder)
        summand = Memory(context, builder, signature.args[3], bias, column).load(_constant(0))
        row = builder.mul(apart, _constant(POINTS))
        square = Memory(context, builder, signature.args[0], m, place).square(POINTS, row, apart)
        results = [[terms.add(y, summand) for y in row] for row in terms.both_ways(terms.outputs, square)]
        Memory(context, builder, signature.args[5], y, target).store_square(results, down, across)
        return context.get_dummy_value()

    word = types.intp
    return types.void(m, word, word, bias, word, y, word, word, word), build


def _store_points(memory: Memory, points: list[list], apart) -> None:
    memory.store_square(points, memory.builder.mul(apart, _constant(POINTS)), apart)


def _product(width: int):
    """Make the product of ROWS rows and `width` columns, whose sums stay in registers."""
    vectors = width // VECTOR

    @intrinsic
    def product(typing_context, v, place, pitch, count, u, start, m, target, more):
        """Multiply ROWS rows of v by the matrix (count, width) of u into m (ROWS, width), or add if `more`.

        v holds VECTOR of the `count` numbers of each row together, then those of the next row; the next VECTOR are
        `pitch` further on. The last ones end with the last number, so they may begin with some of those before.
        """

        def build(context, builder, signature, arguments):
            v, place, pitch, count, u, start, m, target, more = arguments
            maps = Memory(context, builder, signature.args[0], v, place)
            weights = Memory(context, builder, signature.args[4], u, start)
            results = Memory(context, builder, signature.args[6], m, target)
            sums = _sums(builder, results, more, vectors)
            _accumulate(builder, maps, weights, pitch, count, sums)
            for i, total in enumerate(sums):
                results.store(builder.load(total), _constant(i * VECTOR))
            return context.get_dummy_value()

        word = types.intp
        return types.void(v, word, word, word, u, word, m, word, types.boolean), build

    return product


def _sums(builder, results: Memory, more, vectors: int) -> list:
    """Registers for the sums, row by row: what m holds, or 0."""
    sums = [cgutils.alloca_once(builder, _KIND) for _ in range(ROWS * vectors)]
    with builder.if_else(more) as (then, otherwise):
        with then:
            for i, total in enumerate(sums):
                builder.store(results.load(_constant(i * VECTOR)), total)
        with otherwise:
            for total in sums:
                builder.store(ir.Constant(_KIND, [0.0] * VECTOR), total)
    return sums


def _accumulate(builder, maps: Memory, weights: Memory, pitch, count, sums: list) -> None:
    """Add the products of all `count` numbers of each row."""
    vectors = len(sums) // ROWS
    blocks = builder.sdiv(builder.add(count, _constant(VECTOR - 1)), _constant(VECTOR))
    repeated = builder.sub(builder.mul(blocks, _constant(VECTOR)), count)
    row = cgutils.alloca_once_value(builder, weights.pointer)
    with cgutils.for_range(builder, blocks) as block:
        is_last = builder.icmp_signed("==", block.index, builder.sub(blocks, _constant(1)))
        numbers = builder.gep(maps.pointer, [builder.mul(block.index, pitch)])
        first = builder.select(is_last, repeated, _constant(0))
        with cgutils.for_range(builder, _constant(VECTOR), start=first) as number:
            weights.pointer = builder.load(row)
            factors = [weights.load(_constant(n * VECTOR)) for n in range(vectors)]
            for r in range(ROWS):
                place = builder.add(number.index, _constant(r * VECTOR))
                value = _fill(builder, builder.load(builder.gep(numbers, [place]), align=4))
                for n, factor in enumerate(factors):
                    total = sums[r * vectors + n]
                    builder.store(Terms(builder).add(_times(builder, value, factor), builder.load(total)), total)
            builder.store(builder.gep(weights.pointer, [_constant(vectors * VECTOR)]), row)


def _times(builder, x, y):
    return builder.fmul(x, y, flags=("contract",))


def _fill(builder, value):
    undefined, word = ir.Constant(_KIND, ir.Undefined), ir.IntType(32)
    one = builder.insert_element(undefined, value, ir.Constant(word, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(word, VECTOR), [0] * VECTOR))


product_wide, product_narrow = _product(WIDTHS[0]), _product(WIDTHS[-1])


@intrinsic
def transpose(typing_context, x, place, pitch, y, target, apart):
    """Copy VECTOR x VECTOR numbers, rows `pitch` apart in x, to y with rows and columns exchanged, `apart` there."""

    def build(context, builder, signature, arguments):
        x, place, pitch, y, target, apart = arguments
        source = Memory(context, builder, signature.args[0], x, place)
        rows = [source.load(builder.mul(pitch, _constant(r))) for r in range(VECTOR)]
        for row, value in enumerate(_exchanged(builder, rows)):
            there = builder.add(target, builder.mul(apart, _constant(row)))
            Memory(context, builder, signature.args[3], y, there).store(value, _constant(0))
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
