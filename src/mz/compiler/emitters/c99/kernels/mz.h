/* What a compiled network is, and the layers that it calls. See README.txt beside this file.
 *
 * Maps [C, H, W] lie in memory as [H][W][C]; tensors of any other rank lie row by row. An integer of at most 8 bits takes
 * one byte, of 16 bits two. Every function may write over an input of its own where its comment says so.
 */
#ifndef MZ_H
#define MZ_H

#include <stdint.h>

#define MZ_MAX_RANK 6

/* A tensor in the arena: real value = scale * (q - zero_point), 0 <= q < 2^bits. shape: as the network has it, without
 * the batch axis. offset: bytes from the arena's begin. */
typedef struct {
    const char *name;
    int32_t offset;
    int32_t bits;
    int32_t zero_point;
    float scale;
    int32_t rank;
    int32_t shape[MZ_MAX_RANK];
    const float *mean, *std;
} mz_tensor;

/* run: from the inputs' integers to the outputs', all in the arena, which is aligned to 16 bytes. */
typedef struct {
    const char *name;
    int32_t arena_bytes;
    int32_t input_count;
    const mz_tensor *inputs;
    int32_t output_count;
    const mz_tensor *outputs;
    void (*run)(void *arena);
} mz_model;

/* NULL where this program computes as mz needs it, else what is wrong: call it once at start. */
const char *mz_check(void);

/* Number of integers of a tensor, and bytes of all of them. */
int32_t mz_count(const mz_tensor *tensor);
int32_t mz_bytes(const mz_tensor *tensor);

/* Real values in the network's order ([C][H][W]) -> the tensor's integers in the arena. A tensor with a mean and a std by
 * channel holds pixels, and the real values are images normalized by these. */
void mz_quantize(const mz_tensor *tensor, const float *real, void *arena);

/* The tensor's integers in the arena -> integers in the network's order. */
void mz_integers(const mz_tensor *tensor, const void *arena, uint16_t *integers);

/* The interval of a layer's outputs, less the zero point, and the zero point. */
typedef struct {
    float low, high;
    int32_t zero;
} mz_range;

/* Convolution, transposed convolution, dense layer (a row of pixels, kernel 1 x 1).
 * tile: output pixels gathered at a time; direct: pixels are read where they lie.
 * weights: for each group, then each 16 of its channels (the last of them perhaps fewer), [inputs / 4][channels][4], where
 * inputs = kernel rows x kernel columns x channels in, filled up with zeros; 4-bit weights lie two to a byte, low half
 * first, + 8. bias: with the input's zero point in it; int32, and int64 for the wide form, whose sums have 64 bits.
 * below: of a PReLU, what stands for the multiplier where a sum is below 0; else 0. */
typedef struct {
    int32_t groups, group_in, group_out;
    int32_t in_rows, in_columns, out_rows, out_columns;
    int32_t kernel_rows, kernel_columns, stride_rows, stride_columns, dilation_rows, dilation_columns, top, left;
    int32_t transposed, zero_in, in_bits, out_bits, weight_bits, tile, direct;
    const void *weights;
    const void *bias;
    const float *multiplier, *below;
    mz_range range;
} mz_conv;

void mz_conv_narrow(const mz_conv *layer, const uint8_t *x, void *y, uint8_t *scratch);
void mz_conv_wide(const mz_conv *layer, const void *x, void *y, uint8_t *scratch);

/* One kernel per channel. weights: [kernel rows x kernel columns][channels]. bias: int32, or int64 where wide. below: as
 * above. */
typedef struct {
    int32_t channels, in_rows, in_columns, out_rows, out_columns;
    int32_t kernel_rows, kernel_columns, stride_rows, stride_columns, dilation_rows, dilation_columns, top, left;
    int32_t zero_in, in_bits, out_bits, weight_bits, wide;
    const void *weights;
    const void *bias;
    const float *multiplier, *below;
    mz_range range;
} mz_depthwise;

void mz_depthwise_run(const mz_depthwise *layer, const void *x, void *y, void *scratch);

/* Windows over maps. multiplier: of means alone, one for all outputs or (by_pixel) one each. */
typedef struct {
    int32_t channels, in_rows, in_columns, out_rows, out_columns;
    int32_t kernel_rows, kernel_columns, stride_rows, stride_columns, dilation_rows, dilation_columns, top, left;
    int32_t zero_in, in_bits, out_bits, by_pixel;
    const float *multiplier;
    mz_range range;
} mz_pool;

void mz_max_pool(const mz_pool *layer, const void *x, void *y);
void mz_mean_pool(const mz_pool *layer, const void *x, void *y);

/* Nested loops over an output that is written from first to last: size of each, outermost first, and how far an operand
 * moves with it; along the innermost one that is 0 or 1. */
typedef struct {
    int32_t rank;
    int32_t size[MZ_MAX_RANK], a[MZ_MAX_RANK], b[MZ_MAX_RANK];
    int32_t a_bits, b_bits, out_bits;
} mz_loops;

/* (factor_a q_a + factor_b q_b + offset) / 2^shift, rounded. May write over an operand that moves with the output. */
typedef struct {
    mz_loops loops;
    int64_t factor_a, factor_b, offset;
    int32_t wide, shift, low, high;
} mz_sum;

void mz_sum_run(const mz_sum *layer, const void *a, const void *b, void *y);

/* factor_a q_a + factor_b q_b + offset, by channel (the innermost loop), times unit, or below where that is below 0. The
 * three are int32, or int64 where wide. May write over an operand, as above. */
typedef struct {
    mz_loops loops;
    const void *factor_a, *factor_b, *offset;
    const float *unit, *below;
    int32_t wide;
    mz_range range;
} mz_prelu_sum;

void mz_prelu_sum_run(const mz_prelu_sum *layer, const void *a, const void *b, void *y);

/* (factor (q_a - zero_a) (q_b - zero_b) + offset) / 2^shift, rounded. May write over an operand, as above. */
typedef struct {
    mz_loops loops;
    int64_t factor, offset;
    int32_t zero_a, zero_b, wide, shift, low, high;
} mz_product;

void mz_product_run(const mz_product *layer, const void *a, const void *b, void *y);

/* Matrices a [rows][inner] times b [inner][columns], for each step of the loops around them (size: outermost first; a, b, y:
 * how far each moves). a_row and its like: how far apart neighbours lie. tile_rows, tile_columns: how many are prepared at a
 * time, of columns sixteens; direct: rows of a are read where they lie. wide: whether sums need 64 bits. */
typedef struct {
    int32_t rank;
    int32_t size[MZ_MAX_RANK], a[MZ_MAX_RANK], b[MZ_MAX_RANK], y[MZ_MAX_RANK];
    int32_t rows, inner, columns, a_row, a_inner, b_inner, b_column, y_row, y_column;
    int32_t zero_a, zero_b, a_bits, b_bits, out_bits, wide, tile_rows, tile_columns, direct;
    float multiplier;
    mz_range range;
} mz_matmul;

void mz_matmul_run(const mz_matmul *layer, const void *a, const void *b, void *y, void *scratch);

/* table: rows of 2^in_bits output integers. choice: the row of each channel; 0 where there is but one. The input is
   outer x channels x inner integers. May write over it. Where there are lines, four numbers for each 2^block_bits of a row's
   entries: entry i of a block is (lines[0] + lines[1] * i) >> 15, plus the i-th number of lines[3] bits from byte lines[2]
   of the table on, lowest bits first. */
typedef struct {
    int32_t outer, channels, inner, in_bits, out_bits, block_bits;
    const void *table;
    const uint16_t *choice;
    const int32_t *lines;
} mz_table;

void mz_table_run(const mz_table *layer, const void *x, void *y);

/* Integers moved: loops of `size`, with how far source and target move along each. `first`: where both begin. */
typedef struct {
    int32_t rank, bits;
    int32_t size[MZ_MAX_RANK], from[MZ_MAX_RANK], to[MZ_MAX_RANK];
    int32_t first_from, first_to;
} mz_move;

void mz_move_run(const mz_move *layer, const void *x, void *y);

/* Two walks through two shapes, step by step, for a reshape that no common loops describe. */
typedef struct {
    mz_move source, target;
} mz_walk;

void mz_walk_run(const mz_walk *layer, const void *x, void *y);

/* `count` integers set to the `channels` values, over and over. */
void mz_fill(void *y, int32_t count, int32_t bits, const int32_t *values, int32_t channels);

/* Source rows and columns: one of each output (nearest), or two with their weights, which sum to 2^fraction_bits. */
typedef struct {
    int32_t channels, in_columns, out_rows, out_columns, bits, fraction_bits;
    const int32_t *rows, *columns, *row_weights, *column_weights;
} mz_resize;

void mz_resize_nearest(const mz_resize *layer, const void *x, void *y);
void mz_resize_bilinear(const mz_resize *layer, const void *x, void *y);

#endif
