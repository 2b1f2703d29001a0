/* Convolutions with one kernel per channel: a block of channels of one output pixel at a time, tap by tap. */
#include <string.h>

#include "mz.h"
#include "mz_arithmetic.h"
#include "mz_window.h"

#define MZ_LANES 32

/* A tap's product with an 8-bit weight fits 16 bits: 255 x 127 < 2^15. */
#define MZ_TAP(x, w) (int16_t)((int16_t)((x)[i] - zero) * (w)[i])

static inline void add_three(const uint8_t *x, int32_t step, const int8_t *w, int32_t channels, int32_t zero,
                             int32_t lanes, int32_t *sums)
{
    const uint8_t *x1 = x + step, *x2 = x1 + step;
    const int8_t *w1 = w + channels, *w2 = w1 + channels;
    int32_t i;
    for (i = 0; i < lanes; i++)
        sums[i] += MZ_TAP(x, w) + MZ_TAP(x1, w1) + MZ_TAP(x2, w2);
}

static inline void add_one(const uint8_t *x, const int8_t *w, int32_t zero, int32_t lanes, int32_t *sums)
{
    int32_t i;
    for (i = 0; i < lanes; i++)
        sums[i] += MZ_TAP(x, w);
}

/* `lanes` channels from `channel` on of one output pixel, at place `place` of y. */
static inline void narrow_block(const mz_depthwise *layer, const uint8_t *x, const int8_t *weights, mz_taps rows,
                                mz_taps columns, int32_t channel, int32_t lanes, void *y, int32_t place)
{
    const int32_t channels = layer->channels, zero = layer->zero_in, step = layer->dilation_columns * channels;
    const float *multiplier;
    const mz_range range = layer->range;
    float own[MZ_LANES];
    int32_t sums[MZ_LANES], row, tap, i;
    memcpy(sums, (const int32_t *)layer->bias + channel, (size_t)lanes * sizeof sums[0]);
    for (row = rows.first; row < rows.last; row++) {
        const int32_t line = rows.place + (row - rows.first) * layer->dilation_rows;
        const uint8_t *from = x + (line * layer->in_columns + columns.place) * channels + channel;
        const int8_t *w = weights + (row * layer->kernel_columns + columns.first) * channels + channel;
        for (tap = columns.first; tap + 3 <= columns.last; tap += 3, from += 3 * step, w += 3 * channels)
            add_three(from, step, w, channels, zero, lanes, sums);
        for (; tap < columns.last; tap++, from += step, w += channels)
            add_one(from, w, zero, lanes, sums);
    }
    multiplier = mz_multipliers(sums, layer->multiplier + channel, layer->below ? layer->below + channel : 0, lanes, own);
    if (layer->out_bits > 8) {
        uint16_t values[MZ_LANES];
        for (i = 0; i < lanes; i++)
            values[i] = (uint16_t)mz_requantize((float)sums[i], multiplier[i], &range);
        memcpy((uint16_t *)y + place, values, (size_t)lanes * sizeof values[0]);
    } else {
        uint8_t values[MZ_LANES];
        for (i = 0; i < lanes; i++)
            values[i] = (uint8_t)mz_requantize((float)sums[i], multiplier[i], &range);
        memcpy((uint8_t *)y + place, values, (size_t)lanes);
    }
}

static void wide_block(const mz_depthwise *layer, const void *x, const void *weights, mz_taps rows, mz_taps columns,
                       int32_t channel, int32_t lanes, void *y, int32_t place)
{
    int64_t sums[MZ_LANES];
    int32_t row, tap, i;
    memcpy(sums, (const int64_t *)layer->bias + channel, (size_t)lanes * sizeof sums[0]);
    for (row = rows.first; row < rows.last; row++)
        for (tap = columns.first; tap < columns.last; tap++) {
            const int32_t line = rows.place + (row - rows.first) * layer->dilation_rows;
            const int32_t column = columns.place + (tap - columns.first) * layer->dilation_columns;
            const int32_t from = (line * layer->in_columns + column) * layer->channels + channel;
            const int32_t w = (row * layer->kernel_columns + tap) * layer->channels + channel;
            for (i = 0; i < lanes; i++) {
                const int32_t weight =
                    layer->weight_bits > 8 ? ((const int16_t *)weights)[w + i] : ((const int8_t *)weights)[w + i];
                sums[i] += (int64_t)(mz_get(x, layer->in_bits, from + i) - layer->zero_in) * weight;
            }
        }
    for (i = 0; i < lanes; i++) {
        const float *multiplier = layer->below && sums[i] < 0 ? layer->below : layer->multiplier;
        mz_put(y, layer->out_bits, place + i, mz_requantize((float)sums[i], multiplier[channel + i], &layer->range));
    }
}

void mz_depthwise_run(const mz_depthwise *layer, const void *x, void *y, void *scratch)
{
    const void *weights = layer->weights;
    int32_t row, column, channel, place = 0;
    if (layer->weight_bits == 4) {
        const int32_t count = layer->kernel_rows * layer->kernel_columns * layer->channels;
        mz_unpack((const uint8_t *)weights, count + (count & 1), (int8_t *)scratch);
        weights = scratch;
    }
    for (row = 0; row < layer->out_rows; row++) {
        const mz_taps rows = mz_inside(row, layer->kernel_rows, layer->stride_rows, layer->dilation_rows, layer->top,
                                       layer->in_rows);
        for (column = 0; column < layer->out_columns; column++) {
            const mz_taps columns = mz_inside(column, layer->kernel_columns, layer->stride_columns,
                                              layer->dilation_columns, layer->left, layer->in_columns);
            for (channel = 0; channel < layer->channels; channel += MZ_LANES) {
                const int32_t left = layer->channels - channel;
                if (layer->wide)
                    wide_block(layer, x, weights, rows, columns, channel, left < MZ_LANES ? left : MZ_LANES, y, place);
                else if (left >= MZ_LANES)
                    narrow_block(layer, (const uint8_t *)x, (const int8_t *)weights, rows, columns, channel, MZ_LANES,
                                 y, place);
                else
                    narrow_block(layer, (const uint8_t *)x, (const int8_t *)weights, rows, columns, channel, left, y,
                                 place);
                place += left < MZ_LANES ? left : MZ_LANES;
            }
        }
    }
}
