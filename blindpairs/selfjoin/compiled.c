/* A task of the join on a CPU: skip, score and decide without leaving the cache.

compiler.py builds this file for this CPU and checks its structs and constants against its own; compiled.py fills the
arrays; cells.py and points.py derive the two tests. A task is a group of 32 neighbouring cells against a span of cells:

    reach    which rows of the span can be near anything in each cell    one score per row and cell
    meet     those rows against the rows of the cell                     one score per pair, and its sign is the verdict
    decide   the few pairs that passed, on the whole vectors             float32 drops, float64 decides

Scores are computed for 32 rows and 32 columns at a time into a block of 4 KB and tested there: a library's matrix
product writes its result to memory to be read again, which took longer than the product (0.24 ns a pair and core
for both with torch in bfloat16 on a Sapphire Rapids of 2.6 GHz, 0.09 ns here).

Three ways to multiply, chosen when it is compiled:
    AMX            bfloat16, 16 x 16 x 32 at an instruction: 1.4 TFLOP/s a core with the test, of 2.7 in Intel's manual
    AVX512-BF16    bfloat16, on AMD's Zen 4 and 5 only: Intel's does 0.7 of the float32 rate (measured)
    float32        any vectors: 170 GFLOP/s a core with AVX512, 110 with AVX2, here
*/

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SIDE 32  /* rows and columns of a block of scores */
#define PANEL 16 /* columns that lie together in memory */
#define CELLS SIDE /* of a task */
#define DEPTH 128 /* columns of a point, at most */

#if !defined(FLOAT32) && defined(__AMX_BF16__) && defined(__linux__)
#define AMX 1
#define AVX512_BF16 0
#elif !defined(FLOAT32) && defined(__AVX512BF16__) \
    && (defined(__znver4__) || defined(__znver5__) || defined(FORCE_AVX512_BF16)) /* slower than float32 on Intel */
#define AMX 0
#define AVX512_BF16 1
#else
#define AMX 0
#define AVX512_BF16 0
#endif

#if AMX || AVX512_BF16
typedef uint16_t element; /* the bits of a bfloat16 */
#else
typedef float element;
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t signs __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef float block[SIDE][SIDE] __attribute__((aligned(64)));

typedef struct {
    const element *left;        /* (places, columns): rows as the left side of a score, in the order of the cells */
    const element *panels;      /* the right sides, each cell beginning a panel of its own, padded with what never passes */
    const element *centres;     /* (groups * 32, columns): of the cells; 0 where a point holds its norms */
    const element *centre_panels;
    const float *centre_halves; /* (groups * 32): |centre|^2 / 2 */
    const float *own;           /* by column of the panels: the product with the centre of the own cell; padding: inf */
    const int64_t *starts;      /* (groups * 32 + 1): the first place of each cell */
    const int64_t *first_panel; /* (groups * 32 + 1) */
    const int64_t *order;       /* (places): the row of a place */
    int64_t columns;
    float reach;
    float skip_error;           /* of the sum that decides whether a row reaches a cell */
    float square_error;         /* of the squared distance of two centres */
} points_t;

typedef struct {
    const void *vectors;   /* float16 or float32, `stride` elements a row */
    const float *lengths;  /* (rows) */
    const double *squares; /* (rows): of the lengths, before they were rounded */
    const int64_t *chosen; /* (rows), or null: which vector a row is */
    int64_t dimension, stride;
    int64_t half;          /* whether they are float16 */
} rows_t;

typedef struct {
    int64_t group, first_cell;        /* cells first_cell to 31 of the group, */
    int64_t first_other, last_other;  /* against these cells, none before the group */
    int64_t capacity;                 /* of what is found */
    float rough;                      /* float32 cosines below it are no pairs */
    double minimum;
    float dense_share;                /* a cell with a larger share of passed pairs is left to the caller */
} task_t;

typedef struct {
    float (*most)[CELLS]; /* (32, 32) */
    int32_t *lists;       /* (32, span): the places that reach each cell */
    int64_t *met;         /* (32): how many they are */
    int64_t *i, *j;       /* (capacity): the pairs found, i < j, */
    double *similarity;   /* their cosines, */
    double *other;        /* and those in other vectors */
    int64_t *found;       /* (1): how many pairs */
} result_t;


/* ---- scores: the product of 32 rows and one or two panels ---- */

#if AMX

#include <sys/syscall.h>
#include <unistd.h>

typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} tiles_t;

/* A Linux process has to request the tiles. */
int ready(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

/* Other code of this thread (oneDNN) may have configured the tiles and may rely on it: restore them afterwards. */
static tiles_t begin_tiles(void)
{
    tiles_t before = {0}, ours = {.palette = 1};
    _tile_storeconfig(&before);
    for (int tile = 0; tile < 8; tile++) {
        ours.bytes[tile] = 64;
        ours.rows[tile] = 16;
    }
    _tile_loadconfig(&ours);
    return before;
}

static void end_tiles(tiles_t before)
{
    if (before.palette)
        _tile_loadconfig(&before);
    else
        _tile_release();
}

static void multiply(const element *rows, const element *panel, int64_t k, int panels, block out)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t d = 0; d < k; d += 32) {
        _tile_loadd(4, rows + d, 2 * k);
        _tile_loadd(6, panel + PANEL * d, 64);
        _tile_loadd(5, rows + 16 * k + d, 2 * k);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 5, 6);
        if (panels == 2) {
            _tile_loadd(7, panel + PANEL * (k + d), 64);
            _tile_dpbf16ps(2, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, &out[0][0], 4 * SIDE);
    _tile_stored(1, &out[16][0], 4 * SIDE);
    if (panels == 2) {
        _tile_stored(2, &out[0][16], 4 * SIDE);
        _tile_stored(3, &out[16][16], 4 * SIDE);
    }
}

#else

typedef int tiles_t;
int ready(void) { return 1; }
static tiles_t begin_tiles(void) { return 0; }
static void end_tiles(tiles_t before) { (void)before; }

#if AVX512_BF16

static void strip(const element *rows, const element *panel, int64_t k, float *out)
{
    __m512 sum[16];
    for (int i = 0; i < 16; i++) sum[i] = _mm512_setzero_ps();
    for (int64_t d = 0; d < k; d += 2) {
        __m512bh b = (__m512bh)_mm512_loadu_si512(panel + PANEL * d);
        for (int i = 0; i < 16; i++) {
            int32_t pair;
            memcpy(&pair, rows + i * k + d, 4);
            sum[i] = _mm512_dpbf16_ps(sum[i], (__m512bh)_mm512_set1_epi32(pair), b);
        }
    }
    for (int i = 0; i < 16; i++) _mm512_storeu_ps(out + SIDE * i, sum[i]);
}
#define STRIP 16

#else

#define STRIP (LANES == 16 ? 8 : 4) /* as many rows as leave all sums in registers */

static inline void strip(const element *rows, const element *panel, int64_t k, float *out)
{
    lanes sum[STRIP][PANEL / LANES] = {0};
    for (int64_t d = 0; d < k; d++)
        for (int v = 0; v < PANEL / LANES; v++) {
            lanes b = *(const lanes *)(panel + PANEL * d + LANES * v);
            for (int i = 0; i < STRIP; i++) sum[i][v] += rows[i * k + d] * b;
        }
    for (int i = 0; i < STRIP; i++)
        for (int v = 0; v < PANEL / LANES; v++) *(lanes *)(out + SIDE * i + LANES * v) = sum[i][v];
}

#endif

static void multiply(const element *rows, const element *panel, int64_t k, int panels, block out)
{
    for (int p = 0; p < panels; p++)
        for (int r = 0; r < SIDE; r += STRIP) strip(rows + r * k, panel + PANEL * k * p, k, &out[r][PANEL * p]);
}

#endif

const char *kind(void) { return AMX ? "amx" : AVX512_BF16 ? "avx512-bf16" : "float32"; }


/* ---- reach: which rows of the span may be near anything in a cell; cells.py derives the test ---- */

static int64_t panels_of(const points_t *p, int64_t cell) { return p->first_panel[cell + 1] - p->first_panel[cell]; }

/* most[b][a] = the largest x.(b - a) of the rows x of cell a, for 32 cells b from `first` on */
static void look_ahead(const points_t *p, const task_t *t, int64_t first, float (*most)[CELLS])
{
    int64_t k = p->columns;
    block scores;
    for (int64_t a = t->first_cell; a < CELLS; a++) {
        int64_t cell = CELLS * t->group + a, panel = p->first_panel[cell], end = p->first_panel[cell + 1];
        float ahead[SIDE][PANEL];
        for (int b = 0; b < SIDE; b++)
            for (int c = 0; c < PANEL; c++) ahead[b][c] = -INFINITY;
        for (; panel < end; panel++) {
            const float *own = p->own + PANEL * panel;
            multiply(p->centres + k * first, p->panels + PANEL * k * panel, k, 1, scores);
            for (int b = 0; b < SIDE; b++)
                for (int c = 0; c < PANEL; c++) {
                    float score = scores[b][c] - own[c];
                    ahead[b][c] = score > ahead[b][c] ? score : ahead[b][c];
                }
        }
        for (int b = 0; b < SIDE; b++) {
            float largest = ahead[b][0];
            for (int c = 1; c < PANEL; c++) largest = ahead[b][c] > largest ? ahead[b][c] : largest;
            most[b][a] = largest;
        }
    }
}

/* most[b][a] += reach |b - a|, and the errors of it all: what a row of cell b then may not fall short of */
static void add_distances(const points_t *p, const task_t *t, int64_t first, float (*most)[CELLS])
{
    int64_t k = p->columns;
    const float *halves = p->centre_halves + CELLS * t->group;
    block products;
    multiply(p->centres + k * first, p->centre_panels + k * CELLS * t->group, k, 2, products);
    for (int b = 0; b < SIDE; b++)
        for (int a = 0; a < CELLS; a++) {
            float square = 2 * (p->centre_halves[first + b] + halves[a] - products[b][a]) + p->square_error;
            most[b][a] += p->reach * sqrtf(square > 0 ? square : 0) + p->skip_error;
        }
}

/* Bit c: whether scores[c] + most >= own[c]. */
static inline uint32_t reached(const float *scores, float most, const float *own)
{
#if defined(__AVX512F__)
    __m512 sums = _mm512_add_ps(_mm512_loadu_ps(scores), _mm512_set1_ps(most));
    return _mm512_cmp_ps_mask(sums, _mm512_loadu_ps(own), _CMP_GE_OQ);
#elif defined(__AVX__)
    uint32_t bits = 0;
    for (int c = 0; c < PANEL; c += 8) {
        __m256 sums = _mm256_add_ps(_mm256_loadu_ps(scores + c), _mm256_set1_ps(most));
        bits |= (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(sums, _mm256_loadu_ps(own + c), _CMP_GE_OQ)) << c;
    }
    return bits;
#else
    uint32_t bits = 0;
    for (int c = 0; c < PANEL; c++) bits |= (uint32_t)(scores[c] + most >= own[c]) << c;
    return bits;
#endif
}

/* Appends the places of a cell's panels that reach each cell of the group. */
static void list_reaching(const points_t *p, const task_t *t, int64_t cell, const float *most, int64_t span,
                          result_t *out)
{
    int64_t k = p->columns, panels = panels_of(p, cell);
    block scores;
    for (int64_t panel = 0; panel < panels; panel += 2) {
        int64_t column = PANEL * (p->first_panel[cell] + panel);
        int both = panel + 1 < panels ? 2 : 1;
        int32_t place = (int32_t)(p->starts[cell] + PANEL * panel);
        multiply(p->centres + k * CELLS * t->group, p->panels + k * column, k, both, scores);
        for (int64_t a = t->first_cell; a < CELLS; a++) {
            uint32_t bits = reached(scores[a], most[a], p->own + column);
            if (both == 2) bits |= reached(&scores[a][PANEL], most[a], p->own + column + PANEL) << PANEL;
            int32_t *list = out->lists + span * a + out->met[a];
            out->met[a] += __builtin_popcount(bits);
            for (; bits; bits &= bits - 1) *list++ = place + __builtin_ctz(bits);
        }
    }
}

static void reach(const points_t *p, const task_t *t, int64_t span, result_t *out)
{
    memset(out->met, 0, CELLS * sizeof *out->met);
    for (int64_t first = t->first_other; first < t->last_other; first += SIDE) {
        float (*most)[CELLS] = out->most;
        look_ahead(p, t, first, most);
        add_distances(p, t, first, most);
        for (int64_t cell = first; cell < first + SIDE && cell < t->last_other; cell++)
            list_reaching(p, t, cell, most[cell - first], span, out);
    }
}


/* ---- decide: cosines on the whole vectors ---- */

static const void *vector_of(const rows_t *rows, int64_t row)
{
    int64_t number = rows->chosen ? rows->chosen[row] : row;
    return (const char *)rows->vectors + number * rows->stride * (rows->half ? 2 : 4);
}

#if !defined(__F16C__) && !defined(__ARM_FP16_FORMAT_IEEE)
static float from_half(uint16_t bits)
{
    uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
    float size = exponent == 31 ? (fraction ? NAN : INFINITY) : exponent ? ldexpf(1024 + fraction, (int)exponent - 25)
                                                                         : ldexpf(fraction, -24);
    return bits >> 15 ? -size : size;
}
#endif

/* Eight numbers of a vector as float32. */
static inline void eight(const rows_t *rows, const void *vector, int64_t at, float *out)
{
    if (!rows->half) {
        memcpy(out, (const float *)vector + at, 32);
        return;
    }
    const uint16_t *bits = (const uint16_t *)vector + at;
#if defined(__F16C__)
    _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128((const void *)bits)));
#elif defined(__ARM_FP16_FORMAT_IEEE)
    __fp16 halves[8];
    memcpy(halves, bits, 16);
    for (int i = 0; i < 8; i++) out[i] = halves[i];
#else
    for (int i = 0; i < 8; i++) out[i] = from_half(bits[i]);
#endif
}

static inline void some(const rows_t *rows, const void *vector, int64_t at, float *out)
{
    if (at + 8 <= rows->dimension) {
        eight(rows, vector, at, out);
        return;
    }
    char rest[32] = {0};
    int64_t size = rows->half ? 2 : 4;
    memcpy(rest, (const char *)vector + at * size, (rows->dimension - at) * size);
    eight(rows, rest, 0, out);
}

/* Within g(D + 8) of the cosine (rows.py), in any order of summation; infinite if it cannot be, because a scale
below the normal numbers has lost digits. */
static float rough_cosine(const rows_t *rows, int64_t one, int64_t two)
{
    const void *a = vector_of(rows, one), *b = vector_of(rows, two);
    float scale_a = 1 / rows->lengths[one], scale_b = 1 / rows->lengths[two], sum[8] = {0}, x[8], y[8];
    if (scale_a < FLT_MIN || scale_b < FLT_MIN) return INFINITY;
    for (int64_t at = 0; at < rows->dimension; at += 8) {
        some(rows, a, at, x);
        some(rows, b, at, y);
        for (int i = 0; i < 8; i++) sum[i] += (x[i] * scale_a) * (y[i] * scale_b);
    }
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

#define SUMS 128 /* ACCUMULATORS of cosine.py */

typedef float floats8 __attribute__((vector_size(32)));
typedef double doubles8 __attribute__((vector_size(64)));

/* Eight numbers of a vector as float64; some numbers where it ends. */
static inline __attribute__((always_inline)) doubles8 eight_doubles(const rows_t *rows, const void *vector, int64_t at)
{
    floats8 numbers;
    some(rows, vector, at, (float *)&numbers);
    return __builtin_convertvector(numbers, doubles8);
}

/* The dot product that decides, in the order of cosine.py. */
static double dot(const rows_t *rows, const void *a, const void *b)
{
    doubles8 sum[SUMS / 8] = {0};
    int64_t first = 0;
    for (; first + SUMS <= rows->dimension; first += SUMS)
        for (int v = 0; v < SUMS / 8; v++)
            sum[v] += eight_doubles(rows, a, first + 8 * v) * eight_doubles(rows, b, first + 8 * v);
    for (int v = 0; first + 8 * v < rows->dimension; v++)
        sum[v] += eight_doubles(rows, a, first + 8 * v) * eight_doubles(rows, b, first + 8 * v);
    for (int width = SUMS / 16; width; width /= 2)
        for (int v = 0; v < width; v++) sum[v] += sum[width + v];
    return ((sum[0][0] + sum[0][4]) + (sum[0][2] + sum[0][6])) + ((sum[0][1] + sum[0][5]) + (sum[0][3] + sum[0][7]));
}

/* The cosine that decides, the same bits as cosine.py has. */
static double cosine(const rows_t *rows, int64_t one, int64_t two)
{
    double found = dot(rows, vector_of(rows, one), vector_of(rows, two)) / sqrt(rows->squares[one] * rows->squares[two]);
    return found > 1 ? 1 : found < -1 ? -1 : found;
}

/* Cosines of the pairs (i, j) of rows. */
void cosines(const rows_t *rows, const int64_t *i, const int64_t *j, int64_t count, double *out)
{
    for (int64_t pair = 0; pair < count; pair++) out[pair] = cosine(rows, i[pair], j[pair]);
}

/* The squared length of each of rows `first` to `last`. */
void measure(const rows_t *rows, int64_t first, int64_t last, double *out)
{
    for (int64_t row = first; row < last; row++) out[row] = dot(rows, vector_of(rows, row), vector_of(rows, row));
}

static void fetch(const rows_t *rows, int64_t row)
{
    const char *vector = vector_of(rows, row);
    for (int64_t byte = 0; byte < rows->dimension * (rows->half ? 2 : 4); byte += 64) __builtin_prefetch(vector + byte);
}

/* Appends those of `count` candidates that are pairs; 0 where there is no room for them. */
static int decide(const rows_t *rows, const rows_t *other, const task_t *t, int64_t (*pairs)[2], int64_t count,
                  result_t *out)
{
    for (int64_t n = 0; n < count; n++) {
        if (n + 2 < count) {
            fetch(rows, pairs[n + 2][0]);
            fetch(rows, pairs[n + 2][1]);
        }
        int64_t i = pairs[n][0] < pairs[n][1] ? pairs[n][0] : pairs[n][1], j = pairs[n][0] + pairs[n][1] - i;
        if (rough_cosine(rows, i, j) < t->rough) continue;
        double similarity = cosine(rows, i, j);
        if (similarity < t->minimum) continue;
        int64_t at = *out->found;
        if (at == t->capacity) return 0;
        out->i[at] = i;
        out->j[at] = j;
        out->similarity[at] = similarity;
        out->other[at] = other->vectors ? cosine(other, i, j) : 0;
        *out->found = at + 1;
    }
    return 1;
}


/* ---- meet: the rows that reach a cell against its rows ---- */

/* Whether any sign bit of the block is clear: the score of a pair that may be wanted. */
static int any_passed(block scores, int panels)
{
    signs all = ~(signs){0};
    for (int r = 0; r < SIDE; r++)
        for (int c = 0; c < PANEL * panels; c += LANES) all &= *(const signs *)&scores[r][c];
    int32_t together = -1;
    for (int v = 0; v < LANES; v++) together &= all[v];
    return together >= 0;
}

#define WAITING 4096 /* candidates that are decided together, so that their vectors can be fetched ahead */

typedef struct {
    int64_t pairs[WAITING + SIDE * SIDE][2]; /* rows */
    int64_t count;
    int64_t passed; /* of the cell */
} candidates_t;

static void collect(const points_t *p, block scores, const int32_t *places, int64_t count, int64_t first, int columns,
                    candidates_t *held)
{
    for (int r = 0; r < count; r++)
        for (int c = 0; c < columns; c++) {
            int32_t bits;
            memcpy(&bits, &scores[r][c], 4);
            if (bits < 0 || places[r] <= first + c) continue; /* within a group a pair is met twice */
            held->pairs[held->count][0] = p->order[places[r]];
            held->pairs[held->count][1] = p->order[first + c];
            held->count++;
            held->passed++;
        }
}

static int64_t span_of(const points_t *p, const task_t *t) { return p->starts[t->last_other] - p->starts[t->first_other]; }

/* A point; in whole vectors where it has them, for a call to memcpy takes longer than that. */
static inline void copy(element *to, const element *from, int64_t k)
{
    int64_t whole = k * sizeof(element) / 64 * 64, at = 0;
    for (; at < whole; at += 64) memcpy((char *)to + at, (const char *)from + at, 64);
    for (at /= sizeof(element); at < k; at++) to[at] = from[at];
}

/* All pairs of one cell; 0 where it has too many of them, with what was found before it left as it was. */
static int meet(const points_t *p, const rows_t *rows, const rows_t *other, const task_t *t, int a, candidates_t *held,
                result_t *out)
{
    int64_t k = p->columns, cell = CELLS * t->group + a, before = *out->found;
    int64_t panels = panels_of(p, cell), size = p->starts[cell + 1] - p->starts[cell];
    const int32_t *list = out->lists + span_of(p, t) * a;
    element gathered[SIDE * DEPTH] __attribute__((aligned(64))) = {0};
    block scores;
    held->count = held->passed = 0;
    for (int64_t at = 0; at < out->met[a]; at += SIDE) {
        int64_t count = out->met[a] - at < SIDE ? out->met[a] - at : SIDE;
        for (int64_t r = 0; r < count; r++) copy(gathered + k * r, p->left + k * list[at + r], k);
        for (int64_t r = at + SIDE; r < at + 2 * SIDE && r < out->met[a]; r++) /* the next ones, from beyond the cache */
            for (int64_t d = 0; d < k; d += 64 / (int64_t)sizeof(element)) __builtin_prefetch(p->left + k * list[r] + d);
        for (int64_t panel = 0; panel < panels; panel += 2) {
            int both = panel + 1 < panels ? 2 : 1;
            multiply(gathered, p->panels + PANEL * k * (p->first_panel[cell] + panel), k, both, scores);
            if (!any_passed(scores, both)) continue; /* rows from `count` on are stale: collect ignores them */
            int64_t first = p->starts[cell] + PANEL * panel, left = size - PANEL * panel;
            collect(p, scores, list + at, count, first, left < PANEL * both ? (int)left : PANEL * both, held);
            if (held->passed > 4096 + (int64_t)(t->dense_share * out->met[a] * size)) goto too_many;
            if (held->count < WAITING) continue;
            if (!decide(rows, other, t, held->pairs, held->count, out)) goto too_many;
            held->count = 0;
        }
    }
    if (decide(rows, other, t, held->pairs, held->count, out)) return 1;
too_many:
    *out->found = before;
    return 0;
}

/* The pairs of a task. Returns the first cell that was not done, because it has too many pairs, or 32. */
int64_t run(const points_t *p, const rows_t *rows, const rows_t *other, const task_t *t, void *scratch, result_t *out)
{
    tiles_t before = begin_tiles();
    reach(p, t, span_of(p, t), out);
    *out->found = 0;
    int a = (int)t->first_cell;
    while (a < CELLS && meet(p, rows, other, t, a, scratch, out)) a++;
    end_tiles(before);
    return a;
}

int64_t scratch_bytes(void) { return sizeof(candidates_t); }


/* ---- what Python has to agree on: compiler.py compares this table with its own when it loads the library ---- */

typedef struct {
    const char *name;
    int64_t value; /* of a constant, or the offset of a field, or the size of a struct */
    int64_t bytes; /* of a field; 0 for the others */
    char type;     /* of a field: d double, f float, q int64_t, P pointer; 0 for the others */
} entry_t;

#define TYPE(x) _Generic((x), double: 'd', float: 'f', int64_t: 'q', default: 'P')
#define FIELD(s, f) {#s "." #f, offsetof(s, f), sizeof(((s *)0)->f), TYPE(((s *)0)->f)}
#define NUMBER(name, number) {name, number, 0, 0}

static const entry_t LAYOUT[] = {
    NUMBER("element_bytes", sizeof(element)), NUMBER("column_multiple", AMX || AVX512_BF16 ? 32 : 8),
    NUMBER("PANEL", PANEL), NUMBER("CELLS", CELLS), NUMBER("SUMS", SUMS), NUMBER("DEPTH", DEPTH),
    NUMBER("points_t", sizeof(points_t)), NUMBER("rows_t", sizeof(rows_t)),
    NUMBER("task_t", sizeof(task_t)), NUMBER("result_t", sizeof(result_t)),
    FIELD(points_t, left), FIELD(points_t, panels), FIELD(points_t, centres), FIELD(points_t, centre_panels),
    FIELD(points_t, centre_halves), FIELD(points_t, own), FIELD(points_t, starts), FIELD(points_t, first_panel),
    FIELD(points_t, order), FIELD(points_t, columns), FIELD(points_t, reach), FIELD(points_t, skip_error),
    FIELD(points_t, square_error),
    FIELD(rows_t, vectors), FIELD(rows_t, lengths), FIELD(rows_t, squares), FIELD(rows_t, chosen),
    FIELD(rows_t, dimension), FIELD(rows_t, stride), FIELD(rows_t, half),
    FIELD(task_t, group), FIELD(task_t, first_cell), FIELD(task_t, first_other), FIELD(task_t, last_other),
    FIELD(task_t, capacity), FIELD(task_t, rough), FIELD(task_t, minimum), FIELD(task_t, dense_share),
    FIELD(result_t, most), FIELD(result_t, lists), FIELD(result_t, met), FIELD(result_t, i), FIELD(result_t, j),
    FIELD(result_t, similarity), FIELD(result_t, other), FIELD(result_t, found),
    {0, 0, 0, 0},
};

const entry_t *layout(void) { return LAYOUT; }
