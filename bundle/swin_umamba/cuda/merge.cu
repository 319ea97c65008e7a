// Sums of what the scan leaves in parts.
#include "device.cuh"
#include "types.cuh"

// out (rows, D) = sum of `copies` parts (copies, rows, D) + skip (D) times u (rows, D); a thread does two channels.
extern "C" __global__ void merge_parts(const PART* parts, const VALUE* u, const float* skip, VALUE* out, long long rows, int channels, int copies) {
    int pairs = (channels + 1) / 2;
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x, size = rows * channels;
    if (i >= rows * pairs) return;
    int d = 2 * (int)(i % pairs), left = channels - d;
    long long at = i / pairs * channels + d;
    Pair<VALUE> value = read_pair<ALIGNED>(u + at, left);
    float a = skip[d] * to_float(value.a), b = left > 1 ? skip[d + 1] * to_float(value.b) : 0.0f;
#pragma unroll 4
    for (int copy = 0; copy < copies; copy++) {
        Pair<PART> part = read_pair<ALIGNED>(parts + copy * size + at, left);
        a += to_float(part.a), b += to_float(part.b);
    }
    write_pair<ALIGNED>(out + at, left, a, b);
}

// Columns from `rank` on of out (cells, rank + width) = sum of the blocks' shares (blocks, cells, width).
extern "C" __global__ void merge_shares(const PACKED* shares, PACKED* out, long long cells, int width, int rank, int blocks) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x, size = cells * width;
    if (i >= size) return;
    float sum = 0.0f;
#pragma unroll 4
    for (int block = 0; block < blocks; block++) sum += to_float(shares[block * size + i]);
    out[i / width * (rank + width) + rank + i % width] = from_float<PACKED>(sum);
}
