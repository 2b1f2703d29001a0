/* Convolutions in 32-bit sums: windows are gathered into rows, then multiplied four rows by sixteen channels at a time. */
#include <string.h>

#include "mz.h"
#include "mz_arithmetic.h"
#include "mz_dot.h"
#include "mz_window.h"

/* One row of taps of one output pixel, input row `row` (-1: padding). Returns the end of what it wrote. */
static uint8_t *gather_row(const mz_conv *layer, const uint8_t *x, int32_t row, int32_t out_column, uint8_t *to)
{
    const int32_t channels = layer->group_in, pitch = layer->groups * layer->group_in;
    const int32_t first = out_column * layer->stride_columns - layer->left;
    const uint8_t *line = x + (row < 0 ? 0 : row) * layer->in_columns * pitch;
    int32_t tap;
    if (row < 0) {
        memset(to, layer->zero_in, (size_t)(layer->kernel_columns * channels));
        return to + layer->kernel_columns * channels;
    }
    if (!layer->transposed && layer->dilation_columns == 1 && layer->groups == 1 && first >= 0 &&
        first + layer->kernel_columns <= layer->in_columns) {
        memcpy(to, line + first * channels, (size_t)(layer->kernel_columns * channels));
        return to + layer->kernel_columns * channels;
    }
    for (tap = 0; tap < layer->kernel_columns; tap++, to += channels) {
        const int32_t column = (layer->transposed ? mz_source_transposed : mz_source)(
            out_column, tap, layer->stride_columns, layer->dilation_columns, layer->left, layer->in_columns);
        if (column < 0)
            memset(to, layer->zero_in, (size_t)channels);
        else
            memcpy(to, line + column * pitch, (size_t)channels);
    }
    return to;
}

/* The windows of `count` output pixels from `first` on, one row of `pitch` bytes each; x begins at the group's channel. */
static void gather(const mz_conv *layer, const uint8_t *x, int32_t first, int32_t count, int32_t pitch, uint8_t *columns)
{
    int32_t pixel, tap;
    for (pixel = first; pixel < first + count; pixel++, columns += pitch) {
        const int32_t out_row = pixel / layer->out_columns, out_column = pixel % layer->out_columns;
        uint8_t *to = columns;
        for (tap = 0; tap < layer->kernel_rows; tap++) {
            const int32_t row = (layer->transposed ? mz_source_transposed : mz_source)(
                out_row, tap, layer->stride_rows, layer->dilation_rows, layer->top, layer->in_rows);
            to = gather_row(layer, x, row, out_column, to);
        }
        while (to < columns + pitch)
            *to++ = 0;
    }
}

/* Weights of `width` channels as the innermost step wants them: sixteen channels, 8 bits. */
static void prepare(const mz_conv *layer, const uint8_t *weights, int32_t quads, int32_t width, int8_t *panel)
{
    const int32_t bytes = 4 * width;
    int32_t k;
    for (k = 0; k < quads; k++, panel += 4 * MZ_CHANNELS) {
        if (layer->weight_bits == 4)
            mz_unpack(weights + k * bytes / 2, bytes, panel);
        else
            memcpy(panel, weights + k * bytes, (size_t)bytes);
        memset(panel + bytes, 0, (size_t)(4 * MZ_CHANNELS - bytes));
    }
}

/* Sums of `pixels` times sixteen channels, requantized; the first `width` of each sixteen go to y, `pitch` apart. */
static void finish(const mz_conv *layer, const int32_t *sums, const float *above, const float *below, int32_t pixels,
                   int32_t width, void *y, int32_t pitch)
{
    const mz_range range = layer->range;
    const int32_t count = pixels * MZ_CHANNELS;
    float own[MZ_TILE];
    const float *multiplier = mz_multipliers(sums, above, layer->below ? below : 0, count, own);
    int32_t i;
    if (layer->out_bits > 8) {
        uint16_t values[MZ_TILE];
        for (i = 0; i < count; i++)
            values[i] = (uint16_t)mz_requantize((float)sums[i], multiplier[i], &range);
        for (i = 0; i < pixels; i++)
            memcpy((uint16_t *)y + i * pitch, values + i * MZ_CHANNELS, (size_t)width * sizeof values[0]);
    } else {
        uint8_t values[MZ_TILE];
        for (i = 0; i < count; i++)
            values[i] = (uint8_t)mz_requantize((float)sums[i], multiplier[i], &range);
        for (i = 0; i < pixels; i++)
            if (width == MZ_CHANNELS) /* a constant size is copied without a call */
                memcpy((uint8_t *)y + i * pitch, values + i * MZ_CHANNELS, MZ_CHANNELS);
            else
                memcpy((uint8_t *)y + i * pitch, values + i * MZ_CHANNELS, (size_t)width);
    }
}

/* `count` pixels (rows of x) times up to sixteen channels, the first of them `channel`; y: the first output. */
static void block(const mz_conv *layer, const uint8_t *x, int32_t pitch, int32_t count, const int8_t *weights,
                  int32_t quads, int32_t channel, int32_t width, void *y)
{
    const int32_t channels = layer->groups * layer->group_out;
    int32_t bias[MZ_TILE] = {0}, sums[MZ_TILE];
    float multiplier[MZ_TILE] = {0}, below[MZ_TILE] = {0};
    int32_t first, pixel;
    for (pixel = 0; pixel < MZ_PIXELS; pixel++) {
        memcpy(bias + pixel * MZ_CHANNELS, (const int32_t *)layer->bias + channel, (size_t)width * sizeof bias[0]);
        memcpy(multiplier + pixel * MZ_CHANNELS, layer->multiplier + channel, (size_t)width * sizeof multiplier[0]);
        if (layer->below)
            memcpy(below + pixel * MZ_CHANNELS, layer->below + channel, (size_t)width * sizeof below[0]);
    }
    for (first = 0; first < count; first += MZ_PIXELS) {
        const int32_t pixels = count - first < MZ_PIXELS ? count - first : MZ_PIXELS;
        memcpy(sums, bias, sizeof sums);
        mz_dot(x + first * pitch, pitch, pixels, weights, quads, sums);
        finish(layer, sums, multiplier, below, pixels, width, mz_at_out(y, layer->out_bits, first * channels),
               channels);
    }
}

void mz_conv_narrow(const mz_conv *layer, const uint8_t *x, void *y, uint8_t *scratch)
{
    const int32_t inputs = layer->kernel_rows * layer->kernel_columns * layer->group_in, quads = (inputs + 3) / 4;
    const int32_t pixels = layer->out_rows * layer->out_columns, channels = layer->groups * layer->group_out;
    const int32_t pitch = layer->direct ? layer->groups * layer->group_in : 4 * quads;
    int8_t *panel = (int8_t *)scratch + (layer->direct ? 0 : layer->tile * pitch);
    int32_t group, first, channel;
    for (group = 0; group < layer->groups; group++) {
        const uint8_t *own = x + group * layer->group_in;
        int32_t prepared = -1;
        for (first = 0; first < pixels; first += layer->tile) {
            const int32_t count = pixels - first < layer->tile ? pixels - first : layer->tile;
            const uint8_t *rows = layer->direct ? own + first * pitch : scratch;
            if (!layer->direct)
                gather(layer, own, first, count, pitch, scratch);
            for (channel = 0; channel < layer->group_out; channel += MZ_CHANNELS) {
                const int32_t left = layer->group_out - channel, width = left < MZ_CHANNELS ? left : MZ_CHANNELS;
                const int32_t index = group * layer->group_out + channel, begin = 4 * quads * index;
                const int8_t *weights = (const int8_t *)layer->weights + (layer->weight_bits == 4 ? begin / 2 : begin);
                if (layer->weight_bits == 4 || width < MZ_CHANNELS) {
                    if (prepared != channel)
                        prepare(layer, (const uint8_t *)weights, quads, width, panel);
                    prepared = channel;
                    weights = panel;
                }
                block(layer, rows, pitch, count, weights, quads, index, width,
                      mz_at_out(y, layer->out_bits, first * channels + index));
            }
        }
    }
}
