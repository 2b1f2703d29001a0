/* Which inputs the taps of a window read, along one axis. */
#ifndef MZ_WINDOW_H
#define MZ_WINDOW_H

#include <stdint.h>

/* The input place that output place `out` reads through `tap`, or -1 where that is padding. */
static inline int32_t mz_source(int32_t out, int32_t tap, int32_t stride, int32_t dilation, int32_t before, int32_t size)
{
    const int32_t place = out * stride - before + tap * dilation;
    return place >= 0 && place < size ? place : -1;
}

/* The same for a transposed convolution, -1 where the tap falls between two inputs too. */
static inline int32_t mz_source_transposed(int32_t out, int32_t tap, int32_t stride, int32_t dilation, int32_t before,
                                           int32_t size)
{
    const int32_t place = out + before - tap * dilation;
    return place >= 0 && place % stride == 0 && place / stride < size ? place / stride : -1;
}

/* Taps first to last - 1 lie inside the map; the first one reads input place `place`, the next ones `dilation` further. */
typedef struct {
    int32_t first, last, place;
} mz_taps;

static inline mz_taps mz_inside(int32_t out, int32_t taps, int32_t stride, int32_t dilation, int32_t before, int32_t size)
{
    const int32_t begin = out * stride - before;
    mz_taps inside;
    inside.first = begin < 0 ? (-begin + dilation - 1) / dilation : 0;
    inside.last = begin >= size ? 0 : (size - begin + dilation - 1) / dilation;
    if (inside.last > taps)
        inside.last = taps;
    if (inside.first > inside.last)
        inside.first = inside.last;
    inside.place = begin + inside.first * dilation;
    return inside;
}

#endif
