/* The innermost step of a convolution: up to four pixels times sixteen channels. All forms below give the same integers,
 * as sums of integers do not depend on their order; the plain one (the only one with MZ_PLAIN) says what is computed. */
#ifndef MZ_DOT_H
#define MZ_DOT_H

#include <stdint.h>
#include <string.h>

#define MZ_CHANNELS 16
#define MZ_PIXELS 4
#define MZ_TILE (MZ_PIXELS * MZ_CHANNELS)

#if defined(__SSE2__) && !defined(MZ_PLAIN)
#include <immintrin.h>

static inline int32_t mz_four_bytes(const uint8_t *x)
{
    int32_t four;
    memcpy(&four, x, 4);
    return four;
}
#endif

#if defined(__AVX512VNNI__) && !defined(MZ_PLAIN)
static inline void mz_dot_one(const uint8_t *x, const int8_t *weights, int32_t quads, int32_t *sums)
{
    __m512i sum = _mm512_loadu_si512(sums);
    int32_t k;
    for (k = 0; k < quads; k++)
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(mz_four_bytes(x + 4 * k)), _mm512_loadu_si512(weights + 64 * k));
    _mm512_storeu_si512(sums, sum);
}

static inline void mz_dot_four(const uint8_t *x, int32_t pitch, const int8_t *weights, int32_t quads, int32_t *sums)
{
    const uint8_t *x1 = x + pitch, *x2 = x1 + pitch, *x3 = x2 + pitch;
    __m512i sum0 = _mm512_loadu_si512(sums), sum1 = _mm512_loadu_si512(sums + 16);
    __m512i sum2 = _mm512_loadu_si512(sums + 32), sum3 = _mm512_loadu_si512(sums + 48);
    int32_t k;
    for (k = 0; k < quads; k++) {
        const __m512i w = _mm512_loadu_si512(weights + 64 * k);
        sum0 = _mm512_dpbusd_epi32(sum0, _mm512_set1_epi32(mz_four_bytes(x + 4 * k)), w);
        sum1 = _mm512_dpbusd_epi32(sum1, _mm512_set1_epi32(mz_four_bytes(x1 + 4 * k)), w);
        sum2 = _mm512_dpbusd_epi32(sum2, _mm512_set1_epi32(mz_four_bytes(x2 + 4 * k)), w);
        sum3 = _mm512_dpbusd_epi32(sum3, _mm512_set1_epi32(mz_four_bytes(x3 + 4 * k)), w);
    }
    _mm512_storeu_si512(sums, sum0);
    _mm512_storeu_si512(sums + 16, sum1);
    _mm512_storeu_si512(sums + 32, sum2);
    _mm512_storeu_si512(sums + 48, sum3);
}

#elif defined(__AVX2__) && !defined(MZ_PLAIN)
/* Four bytes as 16-bit numbers, four times over. */
static inline __m256i mz_spread(const uint8_t *x)
{
    return _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(mz_four_bytes(x))));
}

/* Weights of four channels as 16-bit numbers. */
static inline __m256i mz_widen(const int8_t *weights)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)weights));
}

/* Adds eight channels' pairs of sums to `sums`. */
static inline void mz_add_pairs(__m256i low, __m256i high, int32_t *sums)
{
    __m256i *place = (__m256i *)(void *)sums;
    const __m256i pairs = _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xd8);
    _mm256_storeu_si256(place, _mm256_add_epi32(_mm256_loadu_si256(place), pairs));
}

static inline void mz_dot_two(const uint8_t *x, int32_t pitch, const int8_t *weights, int32_t quads, int32_t *sums)
{
    const uint8_t *x1 = x + pitch;
    __m256i a0 = _mm256_setzero_si256(), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    int32_t k;
    for (k = 0; k < quads; k++, weights += 64) {
        const __m256i a = mz_spread(x + 4 * k), b = mz_spread(x1 + 4 * k);
        const __m256i w0 = mz_widen(weights), w1 = mz_widen(weights + 16);
        const __m256i w2 = mz_widen(weights + 32), w3 = mz_widen(weights + 48);
        a0 = _mm256_add_epi32(a0, _mm256_madd_epi16(a, w0));
        a1 = _mm256_add_epi32(a1, _mm256_madd_epi16(a, w1));
        a2 = _mm256_add_epi32(a2, _mm256_madd_epi16(a, w2));
        a3 = _mm256_add_epi32(a3, _mm256_madd_epi16(a, w3));
        b0 = _mm256_add_epi32(b0, _mm256_madd_epi16(b, w0));
        b1 = _mm256_add_epi32(b1, _mm256_madd_epi16(b, w1));
        b2 = _mm256_add_epi32(b2, _mm256_madd_epi16(b, w2));
        b3 = _mm256_add_epi32(b3, _mm256_madd_epi16(b, w3));
    }
    mz_add_pairs(a0, a1, sums);
    mz_add_pairs(a2, a3, sums + 8);
    mz_add_pairs(b0, b1, sums + 16);
    mz_add_pairs(b2, b3, sums + 24);
}

static inline void mz_dot_one(const uint8_t *x, const int8_t *weights, int32_t quads, int32_t *sums)
{
    __m256i a0 = _mm256_setzero_si256(), a1 = a0, a2 = a0, a3 = a0;
    int32_t k;
    for (k = 0; k < quads; k++, weights += 64) {
        const __m256i a = mz_spread(x + 4 * k);
        a0 = _mm256_add_epi32(a0, _mm256_madd_epi16(a, mz_widen(weights)));
        a1 = _mm256_add_epi32(a1, _mm256_madd_epi16(a, mz_widen(weights + 16)));
        a2 = _mm256_add_epi32(a2, _mm256_madd_epi16(a, mz_widen(weights + 32)));
        a3 = _mm256_add_epi32(a3, _mm256_madd_epi16(a, mz_widen(weights + 48)));
    }
    mz_add_pairs(a0, a1, sums);
    mz_add_pairs(a2, a3, sums + 8);
}

static inline void mz_dot_four(const uint8_t *x, int32_t pitch, const int8_t *weights, int32_t quads, int32_t *sums)
{
    mz_dot_two(x, pitch, weights, quads, sums);
    mz_dot_two(x + 2 * pitch, pitch, weights, quads, sums + 32);
}

#elif defined(__SSE2__) && !defined(MZ_PLAIN)
/* Four bytes as 16-bit numbers, twice. */
static inline __m128i mz_spread(const uint8_t *x)
{
    const __m128i four = _mm_unpacklo_epi8(_mm_cvtsi32_si128(mz_four_bytes(x)), _mm_setzero_si128());
    return _mm_unpacklo_epi64(four, four);
}

/* Adds four channels' sums, each in two parts, to `sums`. */
static inline void mz_add_pairs(__m128i low, __m128i high, int32_t *sums)
{
    __m128i *place = (__m128i *)(void *)sums;
    const __m128 a = _mm_castsi128_ps(low), b = _mm_castsi128_ps(high);
    const __m128i even = _mm_castps_si128(_mm_shuffle_ps(a, b, 0x88)), odd = _mm_castps_si128(_mm_shuffle_ps(a, b, 0xdd));
    _mm_storeu_si128(place, _mm_add_epi32(_mm_loadu_si128(place), _mm_add_epi32(even, odd)));
}

/* `pixels` (a constant, 1 or 4) times four channels. */
static inline void mz_dot_group(const uint8_t *x, int32_t pitch, int32_t pixels, const int8_t *weights, int32_t quads,
                                int32_t *sums)
{
    __m128i low[MZ_PIXELS], high[MZ_PIXELS];
    int32_t k, p;
    for (p = 0; p < pixels; p++)
        low[p] = high[p] = _mm_setzero_si128();
    for (k = 0; k < quads; k++) {
        const __m128i w = _mm_loadu_si128((const __m128i *)(const void *)(weights + 64 * k));
        const __m128i w_low = _mm_srai_epi16(_mm_unpacklo_epi8(w, w), 8);
        const __m128i w_high = _mm_srai_epi16(_mm_unpackhi_epi8(w, w), 8);
        for (p = 0; p < pixels; p++) {
            const __m128i four = mz_spread(x + p * pitch + 4 * k);
            low[p] = _mm_add_epi32(low[p], _mm_madd_epi16(four, w_low));
            high[p] = _mm_add_epi32(high[p], _mm_madd_epi16(four, w_high));
        }
    }
    for (p = 0; p < pixels; p++)
        mz_add_pairs(low[p], high[p], sums + p * MZ_CHANNELS);
}

static inline void mz_dot_one(const uint8_t *x, const int8_t *weights, int32_t quads, int32_t *sums)
{
    int32_t c;
    for (c = 0; c < MZ_CHANNELS; c += 4)
        mz_dot_group(x, 0, 1, weights + 4 * c, quads, sums + c);
}

static inline void mz_dot_four(const uint8_t *x, int32_t pitch, const int8_t *weights, int32_t quads, int32_t *sums)
{
    int32_t c;
    for (c = 0; c < MZ_CHANNELS; c += 4)
        mz_dot_group(x, pitch, MZ_PIXELS, weights + 4 * c, quads, sums + c);
}

#else
static inline void mz_dot_one(const uint8_t *x, const int8_t *weights, int32_t quads, int32_t *sums)
{
    int32_t totals[MZ_CHANNELS], k, c;
    memcpy(totals, sums, sizeof totals);
    for (k = 0; k < quads; k++, x += 4, weights += 64)
        for (c = 0; c < MZ_CHANNELS; c++) {
            const int8_t *w = weights + 4 * c;
            totals[c] += x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3];
        }
    memcpy(sums, totals, sizeof totals);
}

static inline void mz_dot_four(const uint8_t *x, int32_t pitch, const int8_t *weights, int32_t quads, int32_t *sums)
{
    int32_t pixel;
    for (pixel = 0; pixel < MZ_PIXELS; pixel++)
        mz_dot_one(x + pixel * pitch, weights, quads, sums + pixel * MZ_CHANNELS);
}
#endif

/* sums [pixels][16] += x [pixels][4 quads], `pitch` bytes apart, times weights [quads][16][4]; pixels is 1 to 4. */
static inline void mz_dot(const uint8_t *x, int32_t pitch, int32_t pixels, const int8_t *weights, int32_t quads,
                          int32_t *sums)
{
    int32_t pixel;
    if (pixels == MZ_PIXELS)
        mz_dot_four(x, pitch, weights, quads, sums);
    else
        for (pixel = 0; pixel < pixels; pixel++)
            mz_dot_one(x + pixel * pitch, weights, quads, sums + pixel * MZ_CHANNELS);
}

#endif
