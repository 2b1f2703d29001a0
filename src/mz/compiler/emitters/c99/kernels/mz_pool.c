/* Maxima and means of windows, a block of channels at a time. */
#include "mz.h"
#include "mz_arithmetic.h"
#include "mz_window.h"

#define MZ_LANES 32

/* The taps of one output row or column, for a row (axis 0) or a column. */
static mz_taps taps_of(const mz_pool *layer, int32_t row, int32_t place)
{
    return row ? mz_inside(place, layer->kernel_rows, layer->stride_rows, layer->dilation_rows, layer->top,
                           layer->in_rows)
               : mz_inside(place, layer->kernel_columns, layer->stride_columns, layer->dilation_columns, layer->left,
                           layer->in_columns);
}

/* Where the channels of tap (row, column) of a window begin. */
static int32_t place_of(const mz_pool *layer, mz_taps rows, mz_taps columns, int32_t row, int32_t column)
{
    const int32_t line = rows.place + row * layer->dilation_rows;
    return (line * layer->in_columns + columns.place + column * layer->dilation_columns) * layer->channels;
}

static void max_block(const mz_pool *layer, const void *x, mz_taps rows, mz_taps columns, int32_t channel, int32_t lanes,
                      void *y, int32_t place)
{
    int32_t largest[MZ_LANES] = {0}, row, column, i;
    for (row = 0; row < rows.last - rows.first; row++)
        for (column = 0; column < columns.last - columns.first; column++) {
            const void *from = mz_at(x, layer->in_bits, place_of(layer, rows, columns, row, column) + channel);
            if (layer->in_bits > 8)
                for (i = 0; i < lanes; i++)
                    largest[i] = ((const uint16_t *)from)[i] > largest[i] ? ((const uint16_t *)from)[i] : largest[i];
            else
                for (i = 0; i < lanes; i++)
                    largest[i] = ((const uint8_t *)from)[i] > largest[i] ? ((const uint8_t *)from)[i] : largest[i];
        }
    for (i = 0; i < lanes; i++)
        mz_put(y, layer->out_bits, place + i, largest[i]);
}

static void mean_block(const mz_pool *layer, const void *x, mz_taps rows, mz_taps columns, int32_t channel,
                       int32_t lanes, float multiplier, void *y, int32_t place)
{
    const int32_t high = rows.last - rows.first, wide = columns.last - columns.first;
    int64_t zeros = (int64_t)layer->zero_in * high * wide;
    int64_t totals[MZ_LANES] = {0};
    int32_t sums[MZ_LANES], row, column, i;
    for (row = 0; row < high; row++) {
        for (i = 0; i < lanes; i++)
            sums[i] = 0;
        for (column = 0; column < wide; column++) {
            const void *from = mz_at(x, layer->in_bits, place_of(layer, rows, columns, row, column) + channel);
            if (layer->in_bits > 8)
                for (i = 0; i < lanes; i++)
                    sums[i] += ((const uint16_t *)from)[i];
            else
                for (i = 0; i < lanes; i++)
                    sums[i] += ((const uint8_t *)from)[i];
        }
        for (i = 0; i < lanes; i++)
            totals[i] += sums[i];
    }
    for (i = 0; i < lanes; i++)
        mz_put(y, layer->out_bits, place + i,
               mz_requantize((float)(totals[i] - zeros), multiplier, &layer->range));
}

void mz_max_pool(const mz_pool *layer, const void *x, void *y)
{
    int32_t row, column, channel, place = 0;
    for (row = 0; row < layer->out_rows; row++)
        for (column = 0; column < layer->out_columns; column++)
            for (channel = 0; channel < layer->channels; channel += MZ_LANES) {
                const int32_t left = layer->channels - channel, lanes = left < MZ_LANES ? left : MZ_LANES;
                max_block(layer, x, taps_of(layer, 1, row), taps_of(layer, 0, column), channel, lanes, y, place);
                place += lanes;
            }
}

void mz_mean_pool(const mz_pool *layer, const void *x, void *y)
{
    int32_t row, column, channel, place = 0;
    for (row = 0; row < layer->out_rows; row++)
        for (column = 0; column < layer->out_columns; column++) {
            const float multiplier = layer->multiplier[layer->by_pixel ? row * layer->out_columns + column : 0];
            for (channel = 0; channel < layer->channels; channel += MZ_LANES) {
                const int32_t left = layer->channels - channel, lanes = left < MZ_LANES ? left : MZ_LANES;
                mean_block(layer, x, taps_of(layer, 1, row), taps_of(layer, 0, column), channel, lanes, multiplier, y,
                           place);
                place += lanes;
            }
        }
}
