// Sums of what the scan leaves in parts.
#include "device.cuh"
#include "types.cuh"

// out (rows, D) = sum of `copies` parts (copies, rows, D) + skip (D) times u (rows, D); a thread does eight channels.
extern "C" __global__ void merge_parts(const PART* parts, const VALUE* u, const float* skip, VALUE* out, long long rows, int channels, int copies) {
    int columns = (channels + 7) / 8;
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x, size = rows * channels;
    if (i >= rows * columns) return;
    int d = 8 * (int)(i % columns), left = channels - d;
    long long at = i / columns * channels + d;
    Run<VALUE, 8> value;
    float sum[8];
    read_run<WHOLE>(u + at, left, value);
#pragma unroll
    for (int k = 0; k < 8; k++) sum[k] = k < left ? skip[d + k] * value.at(k) : 0.0f;
#pragma unroll 4
    for (int copy = 0; copy < copies; copy++) {
        Run<PART, 8> part;
        read_run<WHOLE>(parts + copy * size + at, left, part);
#pragma unroll
        for (int k = 0; k < 8; k++) sum[k] += part.at(k);
    }
    write_run<WHOLE>(out + at, left, sum);
}

// Columns from `rank` on of out (cells, rank + width) = sum of the blocks' shares (blocks, cells, width); eight a thread.
extern "C" __global__ void merge_shares(const PACKED* shares, PACKED* out, long long cells, int width, int rank, int blocks) {
    int columns = (width + 7) / 8;
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x, size = cells * width, cell = i / columns;
    if (cell >= cells) return;
    int column = 8 * (int)(i % columns), left = width - column;
    float sum[8] = {};
#pragma unroll 4
    for (int block = 0; block < blocks; block++) {
        Run<PACKED, 8> share;
        read_run<PACKED_WHOLE>(shares + block * size + cell * width + column, left, share);
#pragma unroll
        for (int k = 0; k < 8; k++) sum[k] += share.at(k);
    }
    write_run<PACKED_WHOLE>(out + cell * (rank + width) + rank + column, left, sum);
}
