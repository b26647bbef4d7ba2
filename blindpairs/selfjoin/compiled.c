/* A task of the join on a CPU: list, compare and decide while the data is in the cache.

compiler.py builds this file for the CPU it runs on; c_interface.py has the same structs and constants; compiled.py
fills the arrays; cells.py and bound.py derive the two tests. A task takes a group of 32 neighbouring cells and a span
of cells:

    reach      lists, for each cell of the group, the rows of the span that can be near one of its rows: one score for
               each row and cell
    compare    multiplies the listed rows by the rows of the cell: one score for each pair, whose sign says whether it
               passed
    decide     computes the cosines of the few pairs that passed, on the whole vectors: float32 rejects, float64 decides

Scores are computed for 32 rows and 32 columns at a time into a block of 4 KB and tested there. The matrix product of a
library writes its result to memory, from where it must be read again, and that took longer than the product: 0.24 ns a
pair and core for both with torch in bfloat16 on a Sapphire Rapids of 2.6 GHz, against 0.09 ns here.

There are three ways to multiply, of which one is compiled:
    AMX            bfloat16, 16 x 16 x 32 in one instruction: 1.4 TFLOP/s a core with the test, of 2.7 in Intel's manual
    AVX512-BF16    bfloat16, on AMD's Zen 4 and 5 only: Intel's runs at 0.7 of the float32 rate (measured)
    float32        the vectors of any CPU: 170 GFLOP/s a core with AVX512 and 110 with AVX2, measured with this file

Names: p points, t task, k columns of a point, a a cell of the group, b or `cell` a cell of the span. A place is the
position of a row in the order of the cells. Shapes are in parentheses.
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
#define PANEL 16 /* right sides that are stored together, column by column */
#define CELLS_PER_TASK SIDE /* so that one block has the scores of all its centres */
#define MAX_COLUMNS 128 /* of a point */

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

/* The right sides of scores are stored in panels of PANEL right sides, column by column, the order in which a product
reads them. For bfloat16, two columns of a right side are next to each other. The first row of a cell begins a new
panel, and the last panel of a cell is padded with right sides that never pass. */
typedef struct {
    const element *left;          /* (places, columns): the points as left sides, in the order of the cells */
    const element *panels;        /* (panels, columns, PANEL): the points as right sides */
    const element *centres;       /* (groups * 32 + 32, columns): of the cells; 0 where a point holds its norms */
    const element *centre_panels; /* the same as right sides */
    const float *centre_half_squares; /* (groups * 32 + 32): |centre|^2 / 2 */
    const float *own_products;    /* (panels * PANEL): x.a of each right side x, a its own centre; padding: inf */
    const int64_t *starts;        /* (groups * 32 + 1): the first place of each cell */
    const int64_t *first_panel;   /* (groups * 32 + 1): the first panel of each cell */
    const int64_t *order;         /* (places): the row at each place */
    int64_t columns;
    float reach;                  /* the largest distance of the two points of a wanted pair: bound.py */
    float skip_error;             /* of the sum that decides whether a row reaches a cell */
    float square_error;           /* of the squared distance of two centres */
} points_t;

typedef struct {
    const void *vectors;   /* float16 or float32, `stride` elements from one row to the next */
    const float *lengths;  /* (rows) */
    const double *squares; /* (rows): of the lengths, before they were rounded */
    const int64_t *chosen; /* (rows), or null: which vector a row is */
    int64_t dimension, stride;
    int64_t is_float16;
} rows_t;

typedef struct {
    int64_t group, first_cell;        /* cells first_cell to 31 of the group, */
    int64_t first_other, last_other;  /* against these cells, none of which is before the group */
    int64_t capacity;                 /* most pairs that the result has room for */
    float rough;                      /* a pair with a smaller float32 cosine is not wanted */
    double minimum;
    float dense_share;                /* a cell in which a larger share of the pairs passed is left to the caller */
} task_t;

typedef struct {
    float (*slack)[CELLS_PER_TASK]; /* (32, 32): see largest_projections */
    int32_t *lists;       /* (32, span): the places that reach each cell */
    int64_t *list_sizes;  /* (32): how many they are */
    int64_t *i, *j;       /* (capacity): the pairs found, row numbers i < j */
    double *similarity;   /* (capacity): their cosines */
    double *other;        /* (capacity): their cosines in the other vectors, if there are any */
    int64_t *found;       /* (1): how many pairs */
} result_t;


/* ---- scores: multiply() writes the products of 32 left sides and the right sides of one or two panels ---- */

#if AMX

#include <sys/syscall.h>
#include <unistd.h>

/* The operand of the instructions that load and store the configuration of the tiles, as Intel's manual lays it out. */
typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} tiles_t;

/* A Linux process has to request the tiles: ARCH_REQ_XCOMP_PERM of XFEATURE_XTILEDATA. */
int ready(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

/* oneDNN, which torch multiplies with, configures the tiles in this thread and believes that they stay as it left them.
A task returns the configuration that it found. */
static tiles_t begin_tiles(void)
{
    tiles_t before = {0}, wanted = {.palette = 1};
    _tile_storeconfig(&before);
    for (int tile = 0; tile < 8; tile++) {
        wanted.bytes[tile] = 64;
        wanted.rows[tile] = 16;
    }
    _tile_loadconfig(&wanted);
    return before;
}

static void end_tiles(tiles_t before)
{
    if (before.palette)
        _tile_loadconfig(&before);
    else
        _tile_release();
}

/* Tiles 0 to 3 are the quarters of the block: 0 and 1 the first panel, 2 and 3 the second. 4 and 5 hold 16 rows each,
6 and 7 a panel, all of them 32 columns at a time. */
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

/* 16 rows by one panel: the 16 sums, one vector register each, with room for the operands in the other 16. */
static void strip(const element *rows, const element *panel, int64_t k, float *out)
{
    __m512 sum[16]; /* one row of scores in each */
    for (int i = 0; i < 16; i++) sum[i] = _mm512_setzero_ps();
    for (int64_t d = 0; d < k; d += 2) {
        __m512bh b = (__m512bh)_mm512_loadu_si512(panel + PANEL * d);
        for (int i = 0; i < 16; i++) {
            int32_t pair; /* two neighbouring columns of one row, which dpbf16 multiplies and adds at once */
            memcpy(&pair, rows + i * k + d, 4);
            sum[i] = _mm512_dpbf16_ps(sum[i], (__m512bh)_mm512_set1_epi32(pair), b);
        }
    }
    for (int i = 0; i < 16; i++) _mm512_storeu_ps(out + SIDE * i, sum[i]);
}
#define STRIP 16

#else

#define STRIP (LANES == 16 ? 8 : 4) /* the most rows whose sums all stay in registers */

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


/* ---- reach: which rows of the span may be near a row of a cell; cells.py derives the test ----

A row y of cell b reaches cell a if  y.a + slack[b][a] >= y.b,  where a and b stand for the centres too and
slack[b][a] = max over x in cell a of x.(b - a)  +  reach |b - a|  +  the errors. */

static int64_t panels_of(const points_t *p, int64_t cell) { return p->first_panel[cell + 1] - p->first_panel[cell]; }

/* slack[b][a] = the largest x.(b - a) of the rows x of cell a, for the 32 cells b from `first` on */
static void largest_projections(const points_t *p, const task_t *t, int64_t first, float (*slack)[CELLS_PER_TASK])
{
    int64_t k = p->columns;
    block scores;
    for (int64_t a = t->first_cell; a < CELLS_PER_TASK; a++) {
        int64_t cell = CELLS_PER_TASK * t->group + a, panel = p->first_panel[cell], end = p->first_panel[cell + 1];
        float largest[SIDE][PANEL]; /* of the panels so far, one for each lane: these loops vectorise */
        for (int b = 0; b < SIDE; b++)
            for (int c = 0; c < PANEL; c++) largest[b][c] = -INFINITY;
        for (; panel < end; panel++) {
            const float *own = p->own_products + PANEL * panel; /* x.a; inf at the padding, so the score is -inf */
            multiply(p->centres + k * first, p->panels + PANEL * k * panel, k, 1, scores);
            for (int b = 0; b < SIDE; b++)
                for (int c = 0; c < PANEL; c++) {
                    float score = scores[b][c] - own[c];
                    largest[b][c] = score > largest[b][c] ? score : largest[b][c];
                }
        }
        for (int b = 0; b < SIDE; b++) {
            float of_cell = largest[b][0];
            for (int c = 1; c < PANEL; c++) of_cell = largest[b][c] > of_cell ? largest[b][c] : of_cell;
            slack[b][a] = of_cell;
        }
    }
}

/* slack[b][a] += reach |b - a| and the rounding errors of the whole test */
static void add_distances(const points_t *p, const task_t *t, int64_t first, float (*slack)[CELLS_PER_TASK])
{
    int64_t k = p->columns;
    const float *half_squares = p->centre_half_squares + CELLS_PER_TASK * t->group;
    block products;
    multiply(p->centres + k * first, p->centre_panels + k * CELLS_PER_TASK * t->group, k, 2, products);
    for (int b = 0; b < SIDE; b++)
        for (int a = 0; a < CELLS_PER_TASK; a++) {
            float square = 2 * (p->centre_half_squares[first + b] + half_squares[a] - products[b][a]) + p->square_error;
            slack[b][a] += p->reach * sqrtf(square > 0 ? square : 0) + p->skip_error;
        }
}

/* Bit c: whether the row at lane c reaches the cell, scores[c] + slack >= own[c]. Never at the padding, where own is
inf. */
static inline uint32_t reached(const float *scores, float slack, const float *own)
{
#if defined(__AVX512F__)
    __m512 sums = _mm512_add_ps(_mm512_loadu_ps(scores), _mm512_set1_ps(slack));
    return _mm512_cmp_ps_mask(sums, _mm512_loadu_ps(own), _CMP_GE_OQ);
#elif defined(__AVX__)
    uint32_t bits = 0;
    for (int c = 0; c < PANEL; c += 8) {
        __m256 sums = _mm256_add_ps(_mm256_loadu_ps(scores + c), _mm256_set1_ps(slack));
        bits |= (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(sums, _mm256_loadu_ps(own + c), _CMP_GE_OQ)) << c;
    }
    return bits;
#else
    uint32_t bits = 0;
    for (int c = 0; c < PANEL; c++) bits |= (uint32_t)(scores[c] + slack >= own[c]) << c;
    return bits;
#endif
}

/* Appends the places of `cell` that reach each cell of the group to the list of that cell. */
static void list_reaching(const points_t *p, const task_t *t, int64_t cell, const float *slack, int64_t span,
                          result_t *out)
{
    int64_t k = p->columns, panels = panels_of(p, cell);
    block scores;
    for (int64_t panel = 0; panel < panels; panel += 2) {
        int64_t column = PANEL * (p->first_panel[cell] + panel);
        int panel_count = panel + 1 < panels ? 2 : 1;
        int32_t place = (int32_t)(p->starts[cell] + PANEL * panel);
        const float *own = p->own_products + column;
        multiply(p->centres + k * CELLS_PER_TASK * t->group, p->panels + k * column, k, panel_count, scores);
        for (int64_t a = t->first_cell; a < CELLS_PER_TASK; a++) {
            uint32_t bits = reached(scores[a], slack[a], own);
            if (panel_count == 2) bits |= reached(&scores[a][PANEL], slack[a], own + PANEL) << PANEL;
            int32_t *list = out->lists + span * a + out->list_sizes[a];
            out->list_sizes[a] += __builtin_popcount(bits);
            for (; bits; bits &= bits - 1) *list++ = place + __builtin_ctz(bits);
        }
    }
}

static void reach(const points_t *p, const task_t *t, int64_t span, result_t *out)
{
    memset(out->list_sizes, 0, CELLS_PER_TASK * sizeof *out->list_sizes);
    for (int64_t first = t->first_other; first < t->last_other; first += SIDE) {
        float (*slack)[CELLS_PER_TASK] = out->slack;
        largest_projections(p, t, first, slack);
        add_distances(p, t, first, slack);
        for (int64_t cell = first; cell < first + SIDE && cell < t->last_other; cell++)
            list_reaching(p, t, cell, slack[cell - first], span, out);
    }
}


/* ---- decide: the cosines of pairs that passed, on the whole vectors ---- */

static const void *vector_of(const rows_t *rows, int64_t row)
{
    int64_t number = rows->chosen ? rows->chosen[row] : row;
    return (const char *)rows->vectors + number * rows->stride * (rows->is_float16 ? 2 : 4);
}

#if !defined(__F16C__) && !defined(__ARM_FP16_FORMAT_IEEE)
/* In software, for CPUs without an instruction for it. */
static float from_float16(uint16_t bits)
{
    uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
    float size = exponent == 31 ? (fraction ? NAN : INFINITY) : exponent ? ldexpf(1024 + fraction, (int)exponent - 25)
                                                                         : ldexpf(fraction, -24);
    return bits >> 15 ? -size : size;
}
#endif

/* Eight numbers of a vector, from number `at` on, as float32. */
static inline void load8(const rows_t *rows, const void *vector, int64_t at, float *out)
{
    if (!rows->is_float16) {
        memcpy(out, (const float *)vector + at, 32);
        return;
    }
    const uint16_t *bits = (const uint16_t *)vector + at;
#if defined(__F16C__)
    _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128((const void *)bits)));
#elif defined(__ARM_FP16_FORMAT_IEEE)
    __fp16 numbers[8];
    memcpy(numbers, bits, 16);
    for (int i = 0; i < 8; i++) out[i] = numbers[i];
#else
    for (int i = 0; i < 8; i++) out[i] = from_float16(bits[i]);
#endif
}

/* The same at the end of a vector too, padded with zeros, which change no sum. */
static inline void load8_padded(const rows_t *rows, const void *vector, int64_t at, float *out)
{
    if (at + 8 <= rows->dimension) {
        load8(rows, vector, at, out);
        return;
    }
    char rest[32] = {0};
    int64_t size = rows->is_float16 ? 2 : 4;
    memcpy(rest, (const char *)vector + at * size, (rows->dimension - at) * size);
    load8(rows, rest, 0, out);
}

/* A float32 cosine within g(D + 8) of the one that decides (rows.py), in any order of summation. Infinite, so that the
pair is decided in float64, if a scale is below the normal numbers and has lost digits. */
static float rough_cosine(const rows_t *rows, int64_t i, int64_t j)
{
    const void *a = vector_of(rows, i), *b = vector_of(rows, j);
    float scale_a = 1 / rows->lengths[i], scale_b = 1 / rows->lengths[j], sum[8] = {0}, x[8], y[8];
    if (scale_a < FLT_MIN || scale_b < FLT_MIN) return INFINITY;
    for (int64_t at = 0; at < rows->dimension; at += 8) {
        load8_padded(rows, a, at, x);
        load8_padded(rows, b, at, y);
        for (int n = 0; n < 8; n++) sum[n] += (x[n] * scale_a) * (y[n] * scale_b);
    }
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

#define ACCUMULATORS 128 /* the same as in cosine.py */

typedef float floats8 __attribute__((vector_size(32)));
typedef double doubles8 __attribute__((vector_size(64)));

/* load8_padded in float64. Inlined by force: without AVX512 a result of this size is returned through memory. */
static inline __attribute__((always_inline)) doubles8 load8_double(const rows_t *rows, const void *vector, int64_t at)
{
    floats8 numbers;
    load8_padded(rows, vector, at, (float *)&numbers);
    return __builtin_convertvector(numbers, doubles8);
}

/* The dot product that decides. Its order of summation is that of cosine.py, and any other changes the last bits:
accumulator d mod 128 is lane d mod 8 of sum[d / 8 mod 16], and the upper half is added to the lower until one is
left. -O3 without -ffast-math keeps the order as it is written. */
static double dot(const rows_t *rows, const void *a, const void *b)
{
    doubles8 sum[ACCUMULATORS / 8] = {0};
    int64_t first = 0;
    for (; first + ACCUMULATORS <= rows->dimension; first += ACCUMULATORS)
        for (int v = 0; v < ACCUMULATORS / 8; v++)
            sum[v] += load8_double(rows, a, first + 8 * v) * load8_double(rows, b, first + 8 * v);
    for (int v = 0; first + 8 * v < rows->dimension; v++)
        sum[v] += load8_double(rows, a, first + 8 * v) * load8_double(rows, b, first + 8 * v);
    for (int width = ACCUMULATORS / 16; width; width /= 2)
        for (int v = 0; v < width; v++) sum[v] += sum[width + v];
    return ((sum[0][0] + sum[0][4]) + (sum[0][2] + sum[0][6])) + ((sum[0][1] + sum[0][5]) + (sum[0][3] + sum[0][7]));
}

/* The cosine that decides, with the same bits as in cosine.py. */
static double cosine(const rows_t *rows, int64_t i, int64_t j)
{
    double found = dot(rows, vector_of(rows, i), vector_of(rows, j)) / sqrt(rows->squares[i] * rows->squares[j]);
    return found > 1 ? 1 : found < -1 ? -1 : found;
}

/* The cosines (count) of the pairs (i, j) of rows. */
void cosines(const rows_t *rows, const int64_t *i, const int64_t *j, int64_t count, double *out)
{
    for (int64_t pair = 0; pair < count; pair++) out[pair] = cosine(rows, i[pair], j[pair]);
}

/* The squared length of each of the rows from `first` to before `last`, (last - first). */
void measure(const rows_t *rows, int64_t first, int64_t last, double *out)
{
    for (int64_t row = first; row < last; row++) out[row] = dot(rows, vector_of(rows, row), vector_of(rows, row));
}

static void prefetch_vector(const rows_t *rows, int64_t row)
{
    const char *vector = vector_of(rows, row);
    int64_t size = rows->dimension * (rows->is_float16 ? 2 : 4);
    for (int64_t byte = 0; byte < size; byte += 64) __builtin_prefetch(vector + byte);
}

/* Appends those of `count` candidates (row numbers) that are wanted to the result. Returns 0 if it has no room. */
static int decide(const rows_t *rows, const rows_t *other, const task_t *t, int64_t (*pairs)[2], int64_t count,
                  result_t *out)
{
    for (int64_t n = 0; n < count; n++) {
        if (n + 2 < count) { /* the vectors of a pair are anywhere in memory: ask for them two pairs ahead */
            prefetch_vector(rows, pairs[n + 2][0]);
            prefetch_vector(rows, pairs[n + 2][1]);
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


/* ---- compare: the rows that reach a cell against its rows ---- */

/* Whether the sign bit of any score in the block is clear: the score of a pair that passed. */
static int any_passed(block scores, int panels)
{
    signs all = ~(signs){0};
    for (int r = 0; r < SIDE; r++)
        for (int c = 0; c < PANEL * panels; c += LANES) all &= *(const signs *)&scores[r][c];
    int32_t together = -1;
    for (int v = 0; v < LANES; v++) together &= all[v];
    return together >= 0;
}

#define BATCH 4096 /* candidates that are decided together, so that their vectors can be prefetched */

typedef struct {
    int64_t pairs[BATCH + SIDE * SIDE][2]; /* row numbers; a block may add SIDE * SIDE before the count is looked at */
    int64_t count;
    int64_t passed; /* pairs of the cell that passed, decided or not */
} candidates_t;

/* Adds the pairs of a block that passed to the candidates: `count` places by `columns` places from `first` on. */
static void collect(const points_t *p, block scores, const int32_t *places, int64_t count, int64_t first, int columns,
                    candidates_t *candidates)
{
    for (int r = 0; r < count; r++)
        for (int c = 0; c < columns; c++) {
            int32_t bits;
            memcpy(&bits, &scores[r][c], 4);
            if (bits < 0 || places[r] <= first + c) continue; /* within a group a pair occurs twice */
            candidates->pairs[candidates->count][0] = p->order[places[r]];
            candidates->pairs[candidates->count][1] = p->order[first + c];
            candidates->count++;
            candidates->passed++;
        }
}

/* The places of a task's span, which is also the room of a list. */
static int64_t span_of(const points_t *p, const task_t *t)
{
    return p->starts[t->last_other] - p->starts[t->first_other];
}

/* A left side, 64 bytes at a time as far as it goes: a copy of unknown size is a call of memcpy, which takes longer. */
static inline void copy_point(element *to, const element *from, int64_t k)
{
    int64_t whole = k * sizeof(element) / 64 * 64, at = 0;
    for (; at < whole; at += 64) memcpy((char *)to + at, (const char *)from + at, 64);
    for (at /= sizeof(element); at < k; at++) to[at] = from[at];
}

/* Finds all pairs of cell a of the group. Returns 0 if it has too many of them; then the result is unchanged. */
static int compare(const points_t *p, const rows_t *rows, const rows_t *other, const task_t *t, int a,
                   candidates_t *candidates, result_t *out)
{
    int64_t k = p->columns, cell = CELLS_PER_TASK * t->group + a, before = *out->found;
    int64_t panels = panels_of(p, cell), size = p->starts[cell + 1] - p->starts[cell];
    const int32_t *list = out->lists + span_of(p, t) * a;
    int64_t listed = out->list_sizes[a];
    element gathered[SIDE * MAX_COLUMNS] __attribute__((aligned(64))) = {0};
    block scores;
    candidates->count = candidates->passed = 0;
    for (int64_t at = 0; at < listed; at += SIDE) {
        int64_t count = listed - at < SIDE ? listed - at : SIDE;
        for (int64_t r = 0; r < count; r++) copy_point(gathered + k * r, p->left + k * list[at + r], k);
        for (int64_t r = at + SIDE; r < at + 2 * SIDE && r < listed; r++) /* the next rows are not in the cache yet */
            for (int64_t d = 0; d < k; d += 64 / (int)sizeof(element)) __builtin_prefetch(p->left + k * list[r] + d);
        for (int64_t panel = 0; panel < panels; panel += 2) {
            int panel_count = panel + 1 < panels ? 2 : 1;
            multiply(gathered, p->panels + PANEL * k * (p->first_panel[cell] + panel), k, panel_count, scores);
            if (!any_passed(scores, panel_count)) continue; /* rows from `count` on are old: collect ignores them */
            int64_t first = p->starts[cell] + PANEL * panel, rest = size - PANEL * panel;
            int columns = rest < PANEL * panel_count ? (int)rest : PANEL * panel_count; /* without the padding */
            collect(p, scores, list + at, count, first, columns, candidates);
            /* the fixed number keeps small cells here, where a large share is still few pairs */
            if (candidates->passed > 4096 + (int64_t)(t->dense_share * listed * size)) goto too_many;
            if (candidates->count < BATCH) continue;
            if (!decide(rows, other, t, candidates->pairs, candidates->count, out)) goto too_many;
            candidates->count = 0;
        }
    }
    if (decide(rows, other, t, candidates->pairs, candidates->count, out)) return 1;
too_many:
    *out->found = before;
    return 0;
}

/* Finds the pairs of a task. Returns the first cell of the group that was not done, because it has too many pairs, or
32 if all were done. */
int64_t run(const points_t *p, const rows_t *rows, const rows_t *other, const task_t *t, void *scratch, result_t *out)
{
    tiles_t before = begin_tiles();
    reach(p, t, span_of(p, t), out);
    *out->found = 0;
    int a = (int)t->first_cell;
    while (a < CELLS_PER_TASK && compare(p, rows, other, t, a, scratch, out)) a++;
    end_tiles(before);
    return a;
}

int64_t scratch_bytes(void) { return sizeof(candidates_t); }


/* ---- what c_interface.py has to agree with: it compares this table with its own when the library is loaded ---- */

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
    NUMBER("PANEL", PANEL), NUMBER("CELLS_PER_TASK", CELLS_PER_TASK), NUMBER("ACCUMULATORS", ACCUMULATORS),
    NUMBER("MAX_COLUMNS", MAX_COLUMNS),
    NUMBER("points_t", sizeof(points_t)), NUMBER("rows_t", sizeof(rows_t)),
    NUMBER("task_t", sizeof(task_t)), NUMBER("result_t", sizeof(result_t)),
    FIELD(points_t, left), FIELD(points_t, panels), FIELD(points_t, centres), FIELD(points_t, centre_panels),
    FIELD(points_t, centre_half_squares), FIELD(points_t, own_products), FIELD(points_t, starts),
    FIELD(points_t, first_panel), FIELD(points_t, order), FIELD(points_t, columns), FIELD(points_t, reach),
    FIELD(points_t, skip_error), FIELD(points_t, square_error),
    FIELD(rows_t, vectors), FIELD(rows_t, lengths), FIELD(rows_t, squares), FIELD(rows_t, chosen),
    FIELD(rows_t, dimension), FIELD(rows_t, stride), FIELD(rows_t, is_float16),
    FIELD(task_t, group), FIELD(task_t, first_cell), FIELD(task_t, first_other), FIELD(task_t, last_other),
    FIELD(task_t, capacity), FIELD(task_t, rough), FIELD(task_t, minimum), FIELD(task_t, dense_share),
    FIELD(result_t, slack), FIELD(result_t, lists), FIELD(result_t, list_sizes), FIELD(result_t, i), FIELD(result_t, j),
    FIELD(result_t, similarity), FIELD(result_t, other), FIELD(result_t, found),
    {0, 0, 0, 0},
};

const entry_t *layout(void) { return LAYOUT; }
