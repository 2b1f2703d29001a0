/* The two roundings that every layer uses, to nearest with ties to even, and what they ask of the compiler. */
#ifndef MZ_ARITHMETIC_H
#define MZ_ARITHMETIC_H

#include <float.h>
#include <stdint.h>

#include "mz.h"

#if defined(__FAST_MATH__)
#error "mz: -ffast-math (or -Ofast) lets the compiler change roundings: compile without it"
#endif
#if !defined(FLT_EVAL_METHOD) || FLT_EVAL_METHOD != 0
#error "mz: float must be computed as float: on 32-bit x86 give -msse2 -mfpmath=sse, and use -std=c99"
#endif
#if FLT_RADIX != 2 || FLT_MANT_DIG != 24
#error "mz: float must be IEEE 754 binary32"
#endif

/* An array that cannot be where signed numbers shift right without their sign, or int has fewer than 32 bits. */
typedef char mz_shifts_keep_the_sign[(-1 >> 1) == -1 && sizeof(int) >= sizeof(int32_t) ? 1 : -1];

/* 1.5 x 2^23: a float below 2^22 in magnitude that is added to it loses its fraction, rounded to nearest even. */
#define MZ_ROUND 12582912.0f

/* clip(rne(sum * multiplier)) + zero. Clipped before it is rounded, which is the same as the bounds are integers. */
static inline int32_t mz_requantize(float sum, float multiplier, const mz_range *range)
{
    float value = sum * multiplier;
    value = value > range->low ? value : range->low;
    value = value < range->high ? value : range->high;
    return (int32_t)((value + MZ_ROUND) - MZ_ROUND) + range->zero;
}

/* The multiplier of each of `count` sums; `own` has room for them where there is another one below 0. */
static inline const float *mz_multipliers(const int32_t *sums, const float *multiplier, const float *below, int32_t count,
                                          float *own)
{
    int32_t i;
    if (!below)
        return multiplier;
    for (i = 0; i < count; i++)
        own[i] = sums[i] < 0 ? below[i] : multiplier[i];
    return own;
}

static inline int32_t mz_clip(int32_t value, int32_t low, int32_t high)
{
    value = value > low ? value : low;
    return value < high ? value : high;
}

/* rne(value / 2^shift), with half = 2^(shift - 1) - 1 and odd = 1; both are 0 where shift is 0. */
static inline int32_t mz_shift_round(int32_t value, int32_t shift, int32_t half, int32_t odd)
{
    return (value + half + ((value >> shift) & odd)) >> shift;
}

static inline int64_t mz_shift_round_wide(int64_t value, int32_t shift)
{
    return shift == 0 ? value : (value + ((INT64_C(1) << (shift - 1)) - 1) + ((value >> shift) & 1)) >> shift;
}

/* The integer of place `index` in a tensor of `bits`. */
static inline int32_t mz_get(const void *x, int32_t bits, int32_t index)
{
    return bits > 8 ? ((const uint16_t *)x)[index] : ((const uint8_t *)x)[index];
}

static inline void mz_put(void *y, int32_t bits, int32_t index, int32_t value)
{
    if (bits > 8)
        ((uint16_t *)y)[index] = (uint16_t)value;
    else
        ((uint8_t *)y)[index] = (uint8_t)value;
}

/* Where place `index` of a tensor of `bits` lies. */
static inline const void *mz_at(const void *x, int32_t bits, int32_t index)
{
    return (const uint8_t *)x + index * (bits > 8 ? 2 : 1);
}

static inline void *mz_at_out(void *y, int32_t bits, int32_t index)
{
    return (uint8_t *)y + index * (bits > 8 ? 2 : 1);
}

/* 4-bit weights, two to a byte, low half first, each stored + 8; count is even. */
static inline void mz_unpack(const uint8_t *packed, int32_t count, int8_t *weights)
{
    int32_t i;
    for (i = 0; i < count / 2; i++) {
        weights[2 * i] = (int8_t)((packed[i] & 15) - 8);
        weights[2 * i + 1] = (int8_t)((packed[i] >> 4) - 8);
    }
}

#endif
