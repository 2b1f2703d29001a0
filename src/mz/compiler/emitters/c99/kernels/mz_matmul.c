/* Products of two tensors as matrices, with the innermost step of convolutions: rows of a are its pixels, columns of b its
 * weights, sixteen at a time. With q_b = w + half, where half makes w signed,
 *
 *     sum (q_a - zero_a) (q_b - zero_b) = sum q_a w + (half - zero_b) sum q_a - zero_a sum (q_b - zero_b),
 *
 * a product of bytes, a term of the row and a term of the column. 16-bit integers are two planes of bytes, low ones first,
 * which are multiplied each with each. */
#include <string.h>

#include "mz.h"
#include "mz_arithmetic.h"
#include "mz_dot.h"

/* Quads whose sum fits 32 bits: 4 x 2^14 x 255 x 128 < 2^31. */
#define MZ_MOST_QUADS (INT32_C(1) << 14)

/* One matrix product, its parts in scratch. terms: of the rows at hand, and of the columns; panels: the columns of b,
 * sixteen each, as [planes][quads][16][4]. */
typedef struct {
    const mz_matmul *layer;
    int32_t quads, planes_a, planes_b;
    int64_t *row_terms, *column_terms;
    int8_t *panels;
    uint8_t *rows;
} parts;

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* `width` neighbours in a row of b, `step` apart, into their columns' panel. */
static inline void pack_bytes(const uint8_t *b, int32_t step, int32_t width, int8_t *to, int64_t *sums)
{
    int32_t c;
    for (c = 0; c < width; c++) {
        const int32_t value = b[c * step];
        sums[c] += value;
        to[4 * c] = (int8_t)(value - 128);
    }
}

static inline void pack_words(const uint16_t *b, int32_t step, int32_t width, int8_t *low, int8_t *high, int64_t *sums)
{
    int32_t c;
    for (c = 0; c < width; c++) {
        const int32_t value = b[c * step];
        sums[c] += value;
        low[4 * c] = (int8_t)((value & 255) - 128);
        high[4 * c] = (int8_t)((value >> 8) - 128);
    }
}

/* Columns of b from `place` on, at most sixteen. */
static void pack(const parts *of, const void *b, int32_t place, int32_t width, int8_t *panel, int64_t *terms)
{
    const mz_matmul *layer = of->layer;
    const int32_t step = layer->b_column, bytes = 4 * of->quads * MZ_CHANNELS;
    int64_t sums[MZ_CHANNELS] = {0};
    int32_t k, c;
    if (width < MZ_CHANNELS || layer->inner % 4)
        memset(panel, 0, (size_t)(of->planes_b * bytes));
    for (k = 0; k < layer->inner; k++, place += layer->b_inner) {
        int8_t *to = panel + k / 4 * 4 * MZ_CHANNELS + k % 4;
        if (layer->b_bits > 8)
            pack_words((const uint16_t *)b + place, step, width, to, to + bytes, sums);
        else if (width == MZ_CHANNELS) /* a constant count is unrolled */
            pack_bytes((const uint8_t *)b + place, step, MZ_CHANNELS, to, sums);
        else
            pack_bytes((const uint8_t *)b + place, step, width, to, sums);
    }
    for (c = 0; c < MZ_CHANNELS; c++)
        terms[c] = -layer->zero_a * (sums[c] - (int64_t)layer->inner * layer->zero_b);
}

/* The row of a that begins at `place`, its planes one after the other. */
static void gather(const parts *of, const void *a, int32_t place, uint8_t *to)
{
    const mz_matmul *layer = of->layer;
    const int32_t step = layer->a_inner, inner = layer->inner, bytes = 4 * of->quads;
    int32_t k;
    memset(to + inner, 0, (size_t)(bytes - inner));
    if (layer->a_bits > 8) {
        const uint16_t *from = (const uint16_t *)a + place;
        for (k = 0; k < inner; k++) {
            to[k] = (uint8_t)(from[k * step] & 255);
            to[k + bytes] = (uint8_t)(from[k * step] >> 8);
        }
        memset(to + bytes + inner, 0, (size_t)(bytes - inner));
    } else {
        const uint8_t *from = (const uint8_t *)a + place;
        for (k = 0; k < inner; k++)
            to[k] = from[k * step];
    }
}

/* (half - zero_b) sum q_a of one row. */
static int64_t row_term(const parts *of, const uint8_t *row)
{
    const int32_t bytes = 4 * of->quads, half = of->planes_b > 1 ? 128 * 257 : 128;
    int32_t low = 0, high = 0, k;
    for (k = 0; k < bytes; k++)
        low += row[k];
    if (of->planes_a > 1)
        for (k = 0; k < bytes; k++)
            high += row[bytes + k];
    return (half - of->layer->zero_b) * (low + INT64_C(256) * high);
}

/* Sums of `rows` times sixteen columns, requantized; the first `width` of each sixteen go to y from `place` on. */
static void finish(const mz_matmul *layer, const float *sums, int32_t rows, int32_t width, void *y, int32_t place)
{
    const mz_range range = layer->range;
    const float multiplier = layer->multiplier;
    const int32_t step = layer->y_column, count = rows * MZ_CHANNELS;
    int32_t i, c;
    if (layer->out_bits > 8) {
        uint16_t values[MZ_TILE], *to = (uint16_t *)y + place;
        for (i = 0; i < count; i++)
            values[i] = (uint16_t)mz_requantize(sums[i], multiplier, &range);
        for (i = 0; i < rows; i++, to += layer->y_row)
            if (step == 1 && width == MZ_CHANNELS) /* a constant size is copied without a call */
                memcpy(to, values + i * MZ_CHANNELS, MZ_CHANNELS * sizeof values[0]);
            else
                for (c = 0; c < width; c++)
                    to[c * step] = values[i * MZ_CHANNELS + c];
    } else {
        uint8_t values[MZ_TILE], *to = (uint8_t *)y + place;
        for (i = 0; i < count; i++)
            values[i] = (uint8_t)mz_requantize(sums[i], multiplier, &range);
        for (i = 0; i < rows; i++, to += layer->y_row)
            if (step == 1 && width == MZ_CHANNELS)
                memcpy(to, values + i * MZ_CHANNELS, MZ_CHANNELS);
            else
                for (c = 0; c < width; c++)
                    to[c * step] = values[i * MZ_CHANNELS + c];
    }
}

/* Up to four rows times a panel in 32 bits. */
static void narrow(const parts *of, const uint8_t *rows, int32_t pitch, int32_t count, const int64_t *row_terms,
                   const int8_t *panel, const int64_t *column_terms, float *found)
{
    int32_t sums[MZ_TILE], row, c;
    for (row = 0; row < count; row++)
        for (c = 0; c < MZ_CHANNELS; c++)
            sums[row * MZ_CHANNELS + c] = (int32_t)row_terms[row] + (int32_t)column_terms[c];
    mz_dot(rows, pitch, count, panel, of->quads, sums);
    for (c = 0; c < count * MZ_CHANNELS; c++)
        found[c] = (float)sums[c];
}

/* The same in 64 bits, plane by plane. */
static void wide(const parts *of, const uint8_t *rows, int32_t pitch, int32_t count, const int64_t *row_terms,
                 const int8_t *panel, const int64_t *column_terms, float *found)
{
    int64_t totals[MZ_TILE];
    int32_t sums[MZ_TILE], row, c, i, j, first;
    for (row = 0; row < count; row++)
        for (c = 0; c < MZ_CHANNELS; c++)
            totals[row * MZ_CHANNELS + c] = row_terms[row] + column_terms[c];
    for (i = 0; i < of->planes_a; i++)
        for (j = 0; j < of->planes_b; j++)
            for (first = 0; first < of->quads; first += MZ_MOST_QUADS) {
                const int32_t quads = smaller(of->quads - first, MZ_MOST_QUADS);
                const int64_t weight = INT64_C(1) << 8 * (i + j);
                memset(sums, 0, sizeof sums);
                mz_dot(rows + 4 * (i * of->quads + first), pitch, count,
                       panel + 4 * MZ_CHANNELS * (j * of->quads + first), quads, sums);
                for (c = 0; c < count * MZ_CHANNELS; c++)
                    totals[c] += weight * sums[c];
            }
    for (c = 0; c < count * MZ_CHANNELS; c++)
        found[c] = (float)totals[c];
}

/* `count` rows, `pitch` bytes apart, times the `columns` columns that are packed; place: of the first output. */
static void multiply(const parts *of, const uint8_t *rows, int32_t pitch, int32_t count, int32_t columns, void *y,
                     int32_t place)
{
    const mz_matmul *layer = of->layer;
    float sums[MZ_TILE];
    int32_t row, column;
    for (row = 0; row < count; row++)
        of->row_terms[row] = row_term(of, rows + row * pitch);
    for (column = 0; column < columns; column += MZ_CHANNELS) {
        const int8_t *panel = of->panels + 4 * of->quads * of->planes_b * column;
        for (row = 0; row < count; row += MZ_PIXELS) {
            const int32_t now = smaller(count - row, MZ_PIXELS);
            (layer->wide ? wide : narrow)(of, rows + row * pitch, pitch, now, of->row_terms + row, panel,
                                          of->column_terms + column, sums);
            finish(layer, sums, now, smaller(columns - column, MZ_CHANNELS), y,
                   place + row * layer->y_row + column * layer->y_column);
        }
    }
}

/* One pair of matrices, which begin at these places. */
static void product(const parts *of, const void *a, int32_t place_a, const void *b, int32_t place_b, void *y,
                    int32_t place_y)
{
    const mz_matmul *layer = of->layer;
    const int32_t bytes = 4 * of->quads;
    int32_t first, column, row, i;
    for (first = 0; first < layer->columns; first += layer->tile_columns) {
        const int32_t columns = smaller(layer->columns - first, layer->tile_columns);
        for (column = 0; column < columns; column += MZ_CHANNELS)
            pack(of, b, place_b + (first + column) * layer->b_column, smaller(columns - column, MZ_CHANNELS),
                 of->panels + bytes * of->planes_b * column, of->column_terms + column);
        for (row = 0; row < layer->rows; row += layer->tile_rows) {
            const int32_t count = smaller(layer->rows - row, layer->tile_rows), place = place_a + row * layer->a_row;
            const int32_t place_out = place_y + row * layer->y_row + first * layer->y_column;
            if (layer->direct) {
                multiply(of, (const uint8_t *)a + place, layer->a_row, count, columns, y, place_out);
                continue;
            }
            for (i = 0; i < count; i++)
                gather(of, a, place + i * layer->a_row, of->rows + i * of->planes_a * bytes);
            multiply(of, of->rows, of->planes_a * bytes, count, columns, y, place_out);
        }
    }
}

void mz_matmul_run(const mz_matmul *layer, const void *a, const void *b, void *y, void *scratch)
{
    int32_t step[MZ_MAX_RANK] = {0}, place_a = 0, place_b = 0, place_y = 0, axis;
    parts of;
    of.layer = layer;
    of.quads = (layer->inner + 3) / 4;
    of.planes_a = layer->a_bits > 8 ? 2 : 1;
    of.planes_b = layer->b_bits > 8 ? 2 : 1;
    of.row_terms = (int64_t *)scratch;
    of.column_terms = of.row_terms + layer->tile_rows;
    of.panels = (int8_t *)(of.column_terms + layer->tile_columns);
    of.rows = (uint8_t *)of.panels + 4 * of.quads * of.planes_b * layer->tile_columns;
    do {
        product(&of, a, place_a, b, place_b, y, place_y);
        for (axis = layer->rank - 1; axis >= 0; axis--) {
            place_a += layer->a[axis];
            place_b += layer->b[axis];
            place_y += layer->y[axis];
            if (++step[axis] < layer->size[axis])
                break;
            step[axis] = 0;
            place_a -= layer->a[axis] * layer->size[axis];
            place_b -= layer->b[axis] * layer->size[axis];
            place_y -= layer->y[axis] * layer->size[axis];
        }
    } while (axis >= 0);
}
