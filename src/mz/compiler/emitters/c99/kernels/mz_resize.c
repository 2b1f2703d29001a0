/* Rows and columns of maps resampled. */
#include <string.h>

#include "mz.h"
#include "mz_arithmetic.h"

void mz_resize_nearest(const mz_resize *layer, const void *x, void *y)
{
    const int32_t channels = layer->channels;
    int32_t row, column, place = 0;
    for (row = 0; row < layer->out_rows; row++)
        for (column = 0; column < layer->out_columns; column++, place += channels) {
            const int32_t from = (layer->rows[row] * layer->in_columns + layer->columns[column]) * channels;
            memcpy(mz_at_out(y, layer->bits, place), mz_at(x, layer->bits, from),
                   (size_t)channels * (layer->bits > 8 ? 2u : 1u));
        }
}

void mz_resize_bilinear(const mz_resize *layer, const void *x, void *y)
{
    const int32_t channels = layer->channels, pitch = layer->in_columns * channels, shift = 2 * layer->fraction_bits;
    const int32_t half = (INT32_C(1) << (2 * 8 - 1)) - 1;
    int32_t row, column, i, place = 0;
    for (row = 0; row < layer->out_rows; row++)
        for (column = 0; column < layer->out_columns; column++) {
            const int32_t *rows = layer->rows + 2 * row, *columns = layer->columns + 2 * column;
            const int32_t *in_row = layer->row_weights + 2 * row, *in_column = layer->column_weights + 2 * column;
            const int32_t a = rows[0] * pitch + columns[0] * channels, b = rows[0] * pitch + columns[1] * channels;
            const int32_t c = rows[1] * pitch + columns[0] * channels, d = rows[1] * pitch + columns[1] * channels;
            if (layer->bits > 8) {
                const uint16_t *from = (const uint16_t *)x;
                for (i = 0; i < channels; i++, place++) {
                    const int64_t upper = (int64_t)in_column[0] * from[a + i] + (int64_t)in_column[1] * from[b + i];
                    const int64_t lower = (int64_t)in_column[0] * from[c + i] + (int64_t)in_column[1] * from[d + i];
                    const int64_t total = in_row[0] * upper + in_row[1] * lower;
                    ((uint16_t *)y)[place] = (uint16_t)mz_shift_round_wide(total, shift);
                }
            } else {
                const uint8_t *from = (const uint8_t *)x;
                for (i = 0; i < channels; i++, place++) {
                    const int32_t upper = in_column[0] * from[a + i] + in_column[1] * from[b + i];
                    const int32_t lower = in_column[0] * from[c + i] + in_column[1] * from[d + i];
                    const int32_t total = in_row[0] * upper + in_row[1] * lower;
                    ((uint8_t *)y)[place] = (uint8_t)mz_shift_round(total, shift, half, 1);
                }
            }
        }
}
