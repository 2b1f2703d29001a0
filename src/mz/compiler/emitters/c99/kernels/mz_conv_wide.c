/* Convolutions in 64-bit sums: 16-bit activations or weights, and the rare 8-bit layer that could leave 32 bits. */
#include <string.h>

#include "mz.h"
#include "mz_arithmetic.h"
#include "mz_dot.h"
#include "mz_window.h"

/* The window of one output pixel as 16-bit numbers; `first_channel`: of the group. */
static void gather(const mz_conv *layer, const void *x, int32_t first_channel, int32_t pixel, uint16_t *to)
{
    const int32_t out_row = pixel / layer->out_columns, out_column = pixel % layer->out_columns;
    const int32_t pitch = layer->groups * layer->group_in;
    int32_t tap_row, tap_column, channel;
    for (tap_row = 0; tap_row < layer->kernel_rows; tap_row++) {
        const int32_t row = (layer->transposed ? mz_source_transposed : mz_source)(
            out_row, tap_row, layer->stride_rows, layer->dilation_rows, layer->top, layer->in_rows);
        for (tap_column = 0; tap_column < layer->kernel_columns; tap_column++, to += layer->group_in) {
            const int32_t column = (layer->transposed ? mz_source_transposed : mz_source)(
                out_column, tap_column, layer->stride_columns, layer->dilation_columns, layer->left, layer->in_columns);
            const int32_t place = (row * layer->in_columns + column) * pitch + first_channel;
            if (row < 0 || column < 0)
                for (channel = 0; channel < layer->group_in; channel++)
                    to[channel] = (uint16_t)layer->zero_in;
            else if (layer->in_bits > 8)
                memcpy(to, (const uint16_t *)x + place, (size_t)layer->group_in * sizeof to[0]);
            else
                for (channel = 0; channel < layer->group_in; channel++)
                    to[channel] = ((const uint8_t *)x)[place + channel];
        }
    }
}

/* sums [width] += x [4 quads] times weights [quads][width][4]. */
#define MZ_WIDE_DOT(name, type)                                                                                       \
    static void name(const uint16_t *x, const type *weights, int32_t quads, int32_t width, int64_t *sums)            \
    {                                                                                                                 \
        int32_t k, c;                                                                                                 \
        for (k = 0; k < quads; k++, x += 4)                                                                           \
            for (c = 0; c < width; c++, weights += 4)                                                                 \
                sums[c] += (int64_t)(x[0] * weights[0]) + x[1] * weights[1] + (int64_t)(x[2] * weights[2]) +          \
                           x[3] * weights[3];                                                                         \
    }
MZ_WIDE_DOT(dot_8, int8_t)
MZ_WIDE_DOT(dot_16, int16_t)

/* Up to sixteen channels, the first of them `channel`, of the `count` rows of x. */
static void block(const mz_conv *layer, const uint16_t *x, int32_t count, const void *weights, int32_t quads,
                  int32_t channel, int32_t width, void *y, int32_t place)
{
    const int32_t channels = layer->groups * layer->group_out;
    int64_t sums[MZ_CHANNELS];
    int32_t pixel, c;
    for (pixel = 0; pixel < count; pixel++, x += 4 * quads, place += channels) {
        memcpy(sums, (const int64_t *)layer->bias + channel, (size_t)width * sizeof sums[0]);
        if (layer->weight_bits > 8)
            dot_16(x, (const int16_t *)weights, quads, width, sums);
        else
            dot_8(x, (const int8_t *)weights, quads, width, sums);
        for (c = 0; c < width; c++) {
            const float *multiplier = layer->below && sums[c] < 0 ? layer->below : layer->multiplier;
            mz_put(y, layer->out_bits, place + c, mz_requantize((float)sums[c], multiplier[channel + c], &layer->range));
        }
    }
}

void mz_conv_wide(const mz_conv *layer, const void *x, void *y, uint8_t *scratch)
{
    const int32_t inputs = layer->kernel_rows * layer->kernel_columns * layer->group_in, quads = (inputs + 3) / 4;
    const int32_t pixels = layer->out_rows * layer->out_columns, channels = layer->groups * layer->group_out;
    uint16_t *columns = (uint16_t *)(void *)scratch;
    int8_t *panel = (int8_t *)(columns + layer->tile * 4 * quads);
    int32_t group, first, pixel, channel, k;
    for (group = 0; group < layer->groups; group++)
        for (first = 0; first < pixels; first += layer->tile) {
            const int32_t count = pixels - first < layer->tile ? pixels - first : layer->tile;
            for (pixel = 0; pixel < count; pixel++) {
                uint16_t *row = columns + pixel * 4 * quads;
                gather(layer, x, group * layer->group_in, first + pixel, row);
                for (k = inputs; k < 4 * quads; k++)
                    row[k] = 0;
            }
            for (channel = 0; channel < layer->group_out; channel += MZ_CHANNELS) {
                const int32_t left = layer->group_out - channel, width = left < MZ_CHANNELS ? left : MZ_CHANNELS;
                const int32_t index = group * layer->group_out + channel, begin = 4 * quads * index;
                const int8_t *weights = (const int8_t *)layer->weights;
                weights += layer->weight_bits == 4 ? begin / 2 : layer->weight_bits > 8 ? 2 * begin : begin;
                if (layer->weight_bits == 4) {
                    mz_unpack((const uint8_t *)weights, 4 * quads * width, panel);
                    weights = panel;
                }
                block(layer, columns, count, weights, quads, index, width, y, first * channels + index);
            }
        }
}
