/* Tensors in the arena, real inputs as integers, and the test of this program's arithmetic. */
#include "mz_arithmetic.h"

int32_t mz_count(const mz_tensor *tensor)
{
    int32_t axis, count = 1;
    for (axis = 0; axis < tensor->rank; axis++)
        count *= tensor->shape[axis];
    return count;
}

int32_t mz_bytes(const mz_tensor *tensor)
{
    return mz_count(tensor) * (tensor->bits > 8 ? 2 : 1);
}

/* Values a channel: the network's order is [channels][pixels], memory's is [pixels][channels]. */
static int32_t pixels_of(const mz_tensor *tensor)
{
    return tensor->rank == 3 ? tensor->shape[1] * tensor->shape[2] : mz_count(tensor);
}

void mz_quantize(const mz_tensor *tensor, const float *real, void *arena)
{
    uint8_t *to = (uint8_t *)arena + tensor->offset;
    const int32_t pixels = pixels_of(tensor), channels = mz_count(tensor) / pixels, zero = tensor->zero_point;
    const float low = (float)-zero, high = (float)((INT32_C(1) << tensor->bits) - 1 - zero);
    int32_t channel, pixel;
    for (channel = 0; channel < channels; channel++)
        for (pixel = 0; pixel < pixels; pixel++) {
            float value = *real++;
            if (tensor->std)
                value = value * tensor->std[channel] + tensor->mean[channel];
            value /= tensor->scale;
            value = value > low ? value : low;
            value = value < high ? value : high;
            mz_put(to, tensor->bits, pixel * channels + channel, (int32_t)((value + MZ_ROUND) - MZ_ROUND) + zero);
        }
}

void mz_integers(const mz_tensor *tensor, const void *arena, uint16_t *integers)
{
    const uint8_t *from = (const uint8_t *)arena + tensor->offset;
    const int32_t pixels = pixels_of(tensor), channels = mz_count(tensor) / pixels;
    int32_t channel, pixel;
    for (channel = 0; channel < channels; channel++)
        for (pixel = 0; pixel < pixels; pixel++)
            *integers++ = (uint16_t)mz_get(from, tensor->bits, pixel * channels + channel);
}

const char *mz_check(void)
{
    /* volatile: computed when the program runs, in the rounding mode that is then in force */
    static const volatile float sums[] = {3.0f, -3.0f, 5.0f, 7.0f, 1.0f, 16777217.0f};
    static const volatile float factors[] = {0.5f, 0.5f, 0.5f, 0.5f, 0.50000006f, 1.0f};
    static const int32_t rounded[] = {2, -2, 2, 4, 1, 65535};
    static const volatile int32_t large = 16777219;
    const mz_range range = {-65535.0f, 65535.0f, 0};
    const volatile float tenth = 0.1f, three = 3.0f;
    const float product = tenth * three, quotient = tenth / three;
    int32_t i;
    for (i = 0; i < 6; i++)
        if (mz_requantize(sums[i], factors[i], &range) != rounded[i])
            return "mz: floats are not rounded to nearest, ties to even: set the rounding mode back, compile without -ffast-math";
    if ((float)large != 16777220.0f)
        return "mz: integers are not rounded to nearest, ties to even, when they become floats";
    if (product != 0.3f || quotient != 0.033333335f)
        return "mz: a float operation is not rounded to float: compile with -ffp-contract=off, on 32-bit x86 -mfpmath=sse";
    return 0;
}
