"""Vector code of Winograd's convolution for Numba: the transforms of a tile; products_simd.py has what is between them.

F(4x4, 3x3): 4x4 results of a 3x3 convolution from 6x6 inputs by 36 products, where the sum itself takes 144. A
polynomial of degree 3 times one of degree 2 is evaluated at 0, +-a, +-b and infinity, once along rows, once along
columns. a = 3/4 and b = 3/2 are exact in binary and lose least: the error's root mean square is 2 times that of the
plain sum in float32, where the usual 1 and 2 make it 4 times (64 channels, normal numbers).

Arrays are flat, in float32 or int16 that holds bfloat16; places are indices into them, unchecked. What is transformed
from maps in bfloat16 and their weights is rounded to it, and an array of float32 holds two of these in each number.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv 1509.09308.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .products_simd import KIND, VECTOR, Memory, constant, pair

TILE, TAPS, POINTS = 4, 3, 6  # results, weights and points along one side
PRODUCTS = POINTS * POINTS
_A, _B = 0.75, 1.5
_A2, _B2 = _A * _A, _B * _B


class Terms:
    """Writes sums and products of vectors; a multiplication and an addition may fuse."""

    def __init__(self, builder: ir.IRBuilder):
        self.builder = builder

    def add(self, x, y):
        return self.builder.fadd(x, y, flags=("contract",))

    def sub(self, x, y):
        return self.builder.fsub(x, y, flags=("contract",))

    def times(self, factor: float, x):
        return self.builder.fmul(ir.Constant(KIND, [factor] * VECTOR), x, flags=("contract",))

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


@intrinsic
def transform_inputs(typing_context, x, place, down, across, v, target, apart):
    """Transform VECTOR channels of 6x6 pixels of x, `down` between rows, `across` between columns; 36 to v."""

    def build(context, builder, signature, arguments):
        x, place, down, across, v, target, apart = arguments
        terms = Terms(builder)
        pixels = Memory(context, builder, signature.args[0], x, place)
        points = terms.both_ways(terms.inputs, pixels.square(POINTS, down, across))
        target = Memory(context, builder, signature.args[4], v, target)
        _store_points(target, points, apart, target.store_halves if pixels.halves else target.store)
        return context.get_dummy_value()

    word = types.intp
    return types.void(x, word, word, word, v, word, word), build


@intrinsic
def transform_weights(typing_context, like, w, place, across, u, target, apart):
    """Transform VECTOR filters' 3x3 weights of w, `across` between one weight and the next; 36 to u.

    Where `like` is an array of bfloat16, those of the next channel of the input too, which follow.
    """
    halves = like.dtype == types.int16

    def build(context, builder, signature, arguments):
        _, w, place, across, u, target, apart = arguments
        terms = Terms(builder)
        down = builder.mul(across, constant(TAPS))

        def points(place):
            square = Memory(context, builder, signature.args[1], w, place).square(TAPS, down, across)
            return terms.both_ways(terms.weights, square)

        values = points(place)
        if halves:
            more = points(builder.add(place, builder.mul(across, constant(TAPS * TAPS))))
            values = [
                [pair(builder, *both) for both in zip(*rows, strict=True)] for rows in zip(values, more, strict=True)
            ]
        target = Memory(context, builder, signature.args[4], u, target)
        _store_points(target, values, apart, target.store)
        return context.get_dummy_value()

    word = types.intp
    return types.void(like, w, word, word, u, word, word), build


@intrinsic
def transform_outputs(typing_context, m, place, apart, bias, column, y, target, down, across):
    """Transform 36 products of m, `apart` from each other, and add VECTOR biases from a column on; 4x4 pixels to y."""

    def build(context, builder, signature, arguments):
        m, place, apart, bias, column, y, target, down, across = arguments
        terms = Terms(builder)
        summand = Memory(context, builder, signature.args[3], bias, column).load(constant(0))
        row = builder.mul(apart, constant(POINTS))
        square = Memory(context, builder, signature.args[0], m, place).square(POINTS, row, apart)
        results = [[terms.add(y, summand) for y in row] for row in terms.both_ways(terms.outputs, square)]
        Memory(context, builder, signature.args[5], y, target).store_square(results, down, across)
        return context.get_dummy_value()

    word = types.intp
    return types.void(m, word, word, bias, word, y, word, word, word), build


def _store_points(memory: Memory, points: list[list], apart, store) -> None:
    memory.store_square(points, memory.builder.mul(apart, constant(POINTS)), apart, store)
