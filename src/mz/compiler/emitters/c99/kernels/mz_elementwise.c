/* Sums, differences and products of two tensors, and functions by table; a block of integers at a time, read before written. */
#include "mz.h"
#include "mz_arithmetic.h"

#define MZ_BLOCK 64

/* `count` integers that lie `stride` (0 or 1) apart. */
static void load(const void *x, int32_t bits, int32_t place, int32_t stride, int32_t count, int32_t *values)
{
    int32_t i;
    if (stride == 0) {
        const int32_t value = mz_get(x, bits, place);
        for (i = 0; i < count; i++)
            values[i] = value;
    } else if (bits > 8) {
        const uint16_t *from = (const uint16_t *)x + place;
        for (i = 0; i < count; i++)
            values[i] = from[i];
    } else {
        const uint8_t *from = (const uint8_t *)x + place;
        for (i = 0; i < count; i++)
            values[i] = from[i];
    }
}

static void store(void *y, int32_t bits, int32_t place, int32_t count, const int32_t *values)
{
    int32_t i;
    if (bits > 8) {
        uint16_t *to = (uint16_t *)y + place;
        for (i = 0; i < count; i++)
            to[i] = (uint16_t)values[i];
    } else {
        uint8_t *to = (uint8_t *)y + place;
        for (i = 0; i < count; i++)
            to[i] = (uint8_t)values[i];
    }
}

/* Turns the loops around the innermost one a step further; 0 when all are done. */
static int next(const mz_loops *loops, int32_t *step, int32_t *a, int32_t *b)
{
    int32_t axis;
    for (axis = loops->rank - 2; axis >= 0; axis--) {
        *a += loops->a[axis];
        *b += loops->b[axis];
        if (++step[axis] < loops->size[axis])
            return 1;
        step[axis] = 0;
        *a -= loops->a[axis] * loops->size[axis];
        *b -= loops->b[axis] * loops->size[axis];
    }
    return 0;
}

static void sum_block(const mz_sum *layer, const int32_t *a, const int32_t *b, int32_t count, int32_t *y)
{
    const int32_t low = layer->low, high = layer->high, shift = layer->shift;
    int32_t i;
    if (layer->wide) {
        for (i = 0; i < count; i++) {
            const int64_t total = layer->factor_a * a[i] + layer->factor_b * b[i] + layer->offset;
            const int64_t value = mz_shift_round_wide(total, shift);
            y[i] = value < low ? low : value > high ? high : (int32_t)value;
        }
    } else {
        const int32_t factor_a = (int32_t)layer->factor_a, factor_b = (int32_t)layer->factor_b;
        const int32_t offset = (int32_t)layer->offset, odd = shift > 0, half = odd ? (1 << (shift - 1)) - 1 : 0;
        for (i = 0; i < count; i++)
            y[i] = mz_clip(mz_shift_round(factor_a * a[i] + factor_b * b[i] + offset, shift, half, odd), low, high);
    }
}

static void product_block(const mz_product *layer, const int32_t *a, const int32_t *b, int32_t count, int32_t *y)
{
    const int32_t low = layer->low, high = layer->high, shift = layer->shift;
    const int32_t zero_a = layer->zero_a, zero_b = layer->zero_b;
    int32_t i;
    if (layer->wide) {
        for (i = 0; i < count; i++) {
            const int64_t total = layer->factor * (a[i] - zero_a) * (b[i] - zero_b) + layer->offset;
            const int64_t value = mz_shift_round_wide(total, shift);
            y[i] = value < low ? low : value > high ? high : (int32_t)value;
        }
    } else {
        const int32_t factor = (int32_t)layer->factor, offset = (int32_t)layer->offset;
        const int32_t odd = shift > 0, half = odd ? (1 << (shift - 1)) - 1 : 0;
        for (i = 0; i < count; i++)
            y[i] = mz_clip(mz_shift_round(factor * (a[i] - zero_a) * (b[i] - zero_b) + offset, shift, half, odd), low,
                           high);
    }
}

/* `count` channels from `first` on. */
static void prelu_block(const mz_prelu_sum *layer, const int32_t *a, const int32_t *b, int32_t first, int32_t count,
                        int32_t *y)
{
    const float *unit = layer->unit + first, *below = layer->below + first;
    int32_t i;
    if (layer->wide) {
        const int64_t *factor_a = (const int64_t *)layer->factor_a + first;
        const int64_t *factor_b = (const int64_t *)layer->factor_b + first;
        const int64_t *offset = (const int64_t *)layer->offset + first;
        for (i = 0; i < count; i++) {
            const int64_t total = factor_a[i] * a[i] + factor_b[i] * b[i] + offset[i];
            y[i] = mz_requantize((float)total, total < 0 ? below[i] : unit[i], &layer->range);
        }
    } else {
        const int32_t *factor_a = (const int32_t *)layer->factor_a + first;
        const int32_t *factor_b = (const int32_t *)layer->factor_b + first;
        const int32_t *offset = (const int32_t *)layer->offset + first;
        for (i = 0; i < count; i++) {
            const int32_t total = factor_a[i] * a[i] + factor_b[i] * b[i] + offset[i];
            y[i] = mz_requantize((float)total, total < 0 ? below[i] : unit[i], &layer->range);
        }
    }
}

/* What the layers have in common: `layer` is whichever of them is not NULL. */
static void run(const mz_loops *loops, const mz_sum *sum, const mz_prelu_sum *prelu, const mz_product *product,
                const void *a, const void *b, void *y)
{
    const int32_t inner = loops->rank - 1, size = loops->size[inner];
    int32_t step[MZ_MAX_RANK] = {0}, place = 0, place_a = 0, place_b = 0, first;
    int32_t values_a[MZ_BLOCK], values_b[MZ_BLOCK], values[MZ_BLOCK];
    do {
        for (first = 0; first < size; first += MZ_BLOCK) {
            const int32_t count = size - first < MZ_BLOCK ? size - first : MZ_BLOCK;
            load(a, loops->a_bits, place_a + first * loops->a[inner], loops->a[inner], count, values_a);
            load(b, loops->b_bits, place_b + first * loops->b[inner], loops->b[inner], count, values_b);
            if (sum)
                sum_block(sum, values_a, values_b, count, values);
            else if (prelu)
                prelu_block(prelu, values_a, values_b, first, count, values);
            else
                product_block(product, values_a, values_b, count, values);
            store(y, loops->out_bits, place, count, values);
            place += count;
        }
    } while (next(loops, step, &place_a, &place_b));
}

void mz_sum_run(const mz_sum *layer, const void *a, const void *b, void *y)
{
    run(&layer->loops, layer, 0, 0, a, b, y);
}

void mz_prelu_sum_run(const mz_prelu_sum *layer, const void *a, const void *b, void *y)
{
    run(&layer->loops, 0, layer, 0, a, b, y);
}

void mz_product_run(const mz_product *layer, const void *a, const void *b, void *y)
{
    run(&layer->loops, 0, 0, layer, a, b, y);
}

static inline int32_t unfold(const mz_table *layer, int32_t row, int32_t entry)
{
    const int32_t block = (row << (layer->in_bits - layer->block_bits)) + (entry >> layer->block_bits);
    const int32_t *line = layer->lines + 4 * block, bits = line[3];
    const int32_t step = entry & ((INT32_C(1) << layer->block_bits) - 1);
    const uint8_t *rest = (const uint8_t *)layer->table + line[2] + (step * bits >> 3);
    const uint32_t window = (uint32_t)rest[0] | (uint32_t)rest[1] << 8 | (uint32_t)rest[2] << 16;
    const uint32_t left = window >> (step * bits & 7) & ((UINT32_C(1) << bits) - 1);
    return ((line[0] + line[1] * step) >> 15) + (int32_t)left;
}

static void look_up(const mz_table *layer, int32_t row, const void *x, int32_t place, void *y)
{
    const int32_t end = place + layer->inner;
    const void *table;
    if (layer->lines) {
        for (; place < end; place++)
            mz_put(y, layer->out_bits, place, unfold(layer, row, mz_get(x, layer->in_bits, place)));
        return;
    }
    table = mz_at(layer->table, layer->out_bits, row * (INT32_C(1) << layer->in_bits));
    if (layer->in_bits <= 8 && layer->out_bits <= 8)
        for (; place < end; place++)
            ((uint8_t *)y)[place] = ((const uint8_t *)table)[((const uint8_t *)x)[place]];
    else
        for (; place < end; place++)
            mz_put(y, layer->out_bits, place, mz_get(table, layer->out_bits, mz_get(x, layer->in_bits, place)));
}

void mz_table_run(const mz_table *layer, const void *x, void *y)
{
    int32_t outer, channel, place = 0;
    for (outer = 0; outer < layer->outer; outer++)
        for (channel = 0; channel < layer->channels; channel++, place += layer->inner)
            look_up(layer, layer->choice ? layer->choice[channel] : 0, x, place, y);
}
