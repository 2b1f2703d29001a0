/* Concatenation, slices, pads, transpositions and reshapes: integers moved from place to place. */
#include <string.h>

#include "mz.h"
#include "mz_arithmetic.h"

/* Turns the outer `rank` loops a step further; 0 when all are done. */
static int next(const mz_move *layer, int32_t rank, int32_t *step, int32_t *from, int32_t *to)
{
    int32_t axis;
    for (axis = rank - 1; axis >= 0; axis--) {
        *from += layer->from[axis];
        *to += layer->to[axis];
        if (++step[axis] < layer->size[axis])
            return 1;
        step[axis] = 0;
        *from -= layer->from[axis] * layer->size[axis];
        *to -= layer->to[axis] * layer->size[axis];
    }
    return 0;
}

void mz_move_run(const mz_move *layer, const void *x, void *y)
{
    const int32_t inner = layer->rank - 1, size = layer->size[inner];
    const int32_t step_from = layer->from[inner], step_to = layer->to[inner];
    int32_t step[MZ_MAX_RANK] = {0}, from = layer->first_from, to = layer->first_to, i;
    do {
        if (step_from == 1 && step_to == 1)
            memmove(mz_at_out(y, layer->bits, to), mz_at(x, layer->bits, from), (size_t)size * (layer->bits > 8 ? 2u : 1u));
        else if (layer->bits > 8)
            for (i = 0; i < size; i++)
                ((uint16_t *)y)[to + i * step_to] = ((const uint16_t *)x)[from + i * step_from];
        else
            for (i = 0; i < size; i++)
                ((uint8_t *)y)[to + i * step_to] = ((const uint8_t *)x)[from + i * step_from];
    } while (next(layer, inner, step, &from, &to));
}

void mz_walk_run(const mz_walk *layer, const void *x, void *y)
{
    int32_t step_from[MZ_MAX_RANK] = {0}, step_to[MZ_MAX_RANK] = {0};
    int32_t from = 0, to = 0, ignored_from = 0, ignored_to = 0, more;
    do {
        mz_put(y, layer->source.bits, to, mz_get(x, layer->source.bits, from));
        more = next(&layer->source, layer->source.rank, step_from, &from, &ignored_to);
        next(&layer->target, layer->target.rank, step_to, &ignored_from, &to);
    } while (more);
}

void mz_fill(void *y, int32_t count, int32_t bits, const int32_t *values, int32_t channels)
{
    int32_t done, more;
    for (done = 0; done < channels; done++)
        mz_put(y, bits, done, values[done]);
    for (; done < count; done += more) {
        more = done < count - done ? done : count - done;
        memcpy(mz_at_out(y, bits, done), y, (size_t)more * (bits > 8 ? 2u : 1u));
    }
}
