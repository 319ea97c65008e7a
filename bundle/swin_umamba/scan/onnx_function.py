"""SS2D as a function in ONNX's own operators, for the file that `swin_umamba.onnx_export` writes.

ONNX has loops (Scan), so the recurrence needs no unrolling, and one file runs at any size. As in the plain scan's walk
in order (`swin_umamba.scan.reference`), decays and inputs come a block of steps at a time, large enough for a
processor's vector units and small enough for its caches: an outer Scan goes from block to block, an inner one from step
to step.
"""

from __future__ import annotations

from typing import Any

DOMAIN, NAME, OPSET = "swin_umamba", "ss2d_scan", 18
BLOCK = 16

_SIZES = """
    zero = Constant <value_ints=[0]> ()
    one = Constant <value_ints=[1]> ()
    two = Constant <value_ints=[2]> ()
    three = Constant <value_ints=[3]> ()
    four = Constant <value_ints=[4]> ()
    last = Constant <value_ints=[-1]> ()
    before_first = Constant <value_ints=[-9223372036854775807]> ()
    block = Constant <value_ints=[BLOCK]> ()
    no_pads = Constant <value_ints=[0, 0, 0, 0, 0, 0]> ()
    shape = Shape (x)
    batch = Slice (shape, zero, one)
    height = Slice (shape, one, two)
    width = Slice (shape, two, three)
    channels = Slice (shape, three, four)
    length = Mul (height, width)
    rank_shape = Shape (dt_projs_weight)
    rank = Slice (rank_shape, two, three)
    rates_shape = Shape (A_logs)
    states = Slice (rates_shape, one, two)
    below = Sub (block, one)
    beyond = Add (length, below)
    count = Div (beyond, block)
    padded = Mul (count, block)
    missing = Sub (padded, length)
    pads = Concat <axis=0> (no_pads, missing, zero)
    in_blocks = Concat <axis=0> (batch, four, count, block, last)
"""

# (B, H, W, D) -> (B, 4, L, D): rows, columns, and both backwards; then steps, B and C of every place
_PROJECTIONS = """
    one_line = Concat <axis=0> (batch, one, length, channels)
    rows = Reshape (x, one_line)
    turned = Transpose <perm=[0, 2, 1, 3]> (x)
    columns = Reshape (turned, one_line)
    forwards = Concat <axis=1> (rows, columns)
    backwards = Slice (forwards, last, before_first, two, last)
    u = Concat <axis=1> (forwards, backwards)
    project = Transpose <perm=[0, 2, 1]> (x_proj_weight)
    projected = MatMul (u, project)
    sizes = Concat <axis=0> (rank, states, states)
    low, weights_in, weights_out = Split <axis=3> (projected, sizes)
    lift = Transpose <perm=[0, 2, 1]> (dt_projs_weight)
    lifted = MatMul (low, lift)
    bias = Unsqueeze (dt_projs_bias, one)
    delta = Add (lifted, bias)
    steps = Softplus (delta)
    drives = Mul (steps, u)
"""

# (B, 4, L, .) -> (B, 4, K, BLOCK, .); steps of size 0 fill the last block and leave the state alone
_BLOCKS = """
    padded_steps = Pad (steps, pads)
    steps_by_block = Reshape (padded_steps, in_blocks)
    padded_drives = Pad (drives, pads)
    drives_by_block = Reshape (padded_drives, in_blocks)
    padded_in = Pad (weights_in, pads)
    in_by_block = Reshape (padded_in, in_blocks)
    padded_out = Pad (weights_out, pads)
    out_by_block = Reshape (padded_out, in_blocks)
    positive = Exp (A_logs)
    negative = Neg (positive)
    by_direction = Concat <axis=0> (four, channels, states)
    rates_by_channel = Reshape (negative, by_direction)
    rates_by_state = Transpose <perm=[0, 2, 1]> (rates_by_channel)
    rates = Unsqueeze (rates_by_state, one)
    state_shape = Concat <axis=0> (batch, four, states, channels)
    nothing = Constant <value_float=0.0> ()
    first_state = Expand (nothing, state_shape)
"""

_RECURRENCE = """
    end, y_by_block = Scan <num_scan_inputs=4, scan_input_axes=[2, 2, 2, 2], scan_output_axes=[2],
      body = each_block (float[B, 4, N, D] h, float[B, 4, T, D] s, float[B, 4, T, D] d, float[B, 4, T, N] b,
                         float[B, 4, T, N] c) => (float[B, 4, N, D] h_end, float[B, 4, T, D] y_block) {
        s_wide = Unsqueeze (s, three)
        exponents = Mul (s_wide, rates)
        decays = Exp (exponents)
        d_wide = Unsqueeze (d, three)
        b_wide = Unsqueeze (b, four)
        inputs = Mul (d_wide, b_wide)
        h_end, h_all = Scan <num_scan_inputs=2, scan_input_axes=[2, 2], scan_output_axes=[2],
          body = each_step (float[B, 4, N, D] h_before, float[B, 4, N, D] decay, float[B, 4, N, D] driven)
                        => (float[B, 4, N, D] h_after, float[B, 4, N, D] h_kept) {
            h_decayed = Mul (h_before, decay)
            h_after = Add (h_decayed, driven)
            h_kept = Identity (h_after)
          }> (h, decays, inputs)
        c_wide = Unsqueeze (c, three)
        y_wide = MatMul (c_wide, h_all)
        y_block = Squeeze (y_wide, three)
      }> (first_state, steps_by_block, drives_by_block, in_by_block, out_by_block)
"""

# (B, 4, K, BLOCK, D) -> (B, H, W, D): the four directions put back in place and summed, with the skip
_MERGE = """
    in_lines = Concat <axis=0> (batch, four, padded, channels)
    y_padded = Reshape (y_by_block, in_lines)
    y_lines = Slice (y_padded, zero, length, two)
    y_forwards, y_backwards = Split <axis=1, num_outputs=2> (y_lines)
    y_turned = Slice (y_backwards, last, before_first, two, last)
    y_both = Add (y_forwards, y_turned)
    y_rows, y_columns = Split <axis=1, num_outputs=2> (y_both)
    map_of_rows = Reshape (y_rows, shape)
    turned_shape = Concat <axis=0> (batch, width, height, channels)
    map_of_columns = Reshape (y_columns, turned_shape)
    columns_back = Transpose <perm=[0, 2, 1, 3]> (map_of_columns)
    merged = Add (map_of_rows, columns_back)
    skip_shape = Concat <axis=0> (four, channels)
    skips = Reshape (Ds, skip_shape)
    skip = ReduceSum <keepdims=0> (skips, zero)
    skipped = Mul (skip, x)
    y = Add (merged, skipped)
"""


def ss2d_function() -> Any:
    """Return the function `swin_umamba::ss2d_scan` as an `onnx.FunctionProto`; see `swin_umamba.scan.ss2d_scan`.

    Its inputs are x (B, H, W, D) and the five weights, in float32, its output is y (B, H, W, D).
    """
    import onnx.parser

    head = f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]> {NAME} '
    inputs = "(x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds) => (y)"
    body = (_SIZES + _PROJECTIONS + _BLOCKS + _RECURRENCE + _MERGE).replace("BLOCK", str(BLOCK))
    return onnx.parser.parse_function(f"{head}{inputs} {{{body}}}")
