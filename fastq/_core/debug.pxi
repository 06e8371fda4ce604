# What only debug builds have (FASTQ_DEBUG=1): checks, a count of memory, and a fuse. A release has nothing of it.
#
# `fq_check` is for what must hold between processes, where no exception can be raised: it aborts, with a word on
# stderr. Where one can, plain `assert` does; a release leaves that out as well.
#
# Steps stand between any two stores or looks that matter to another process. The fuse kills this process with SIGKILL
# at the n-th step from now: so a test can die at each of them, one after the other, and look at what it left behind.
# Jitter sleeps at every n-th step or so: windows of nanoseconds become wide enough to be hit.

cdef extern from *:
    """
    #include <signal.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <unistd.h>

    #if defined(FASTQ_DEBUG) && FASTQ_DEBUG
    static uint64_t fq_fuse = 0;        /* steps left to live; 0: no fuse */
    static uint32_t fq_jitter = 0;      /* a sleep per so many steps; 0: none */
    static int64_t fq_alive = 0;        /* blocks of memory that have been allocated and not freed */

    static inline void fq_step(void) {
        static uint32_t chance = 0x9e3779b9u;
        if (fq_fuse && --fq_fuse == 0) kill(getpid(), SIGKILL);
        if (fq_jitter) {
            chance ^= chance << 13; chance ^= chance >> 17; chance ^= chance << 5;
            if (chance % fq_jitter == 0) usleep(chance % 200);
        }
    }
    static inline void fq_check(int holds, const char *what) {
        if (!holds) { fprintf(stderr, "fastq._core is broken: %s\\n", what); abort(); } }

    static inline void *fq_malloc(size_t n) { void *p = malloc(n); fq_alive += p != NULL; return p; }
    static inline void *fq_calloc(size_t n, size_t size) {
        void *p = calloc(n, size); fq_alive += p != NULL; return p; }
    static inline void *fq_realloc(void *old, size_t n) {
        int fresh = old == NULL; void *p = realloc(old, n); fq_alive += fresh && p != NULL; return p; }
    static inline void fq_free(void *p) { fq_alive -= p != NULL; free(p); }
    #define malloc fq_malloc
    #define calloc fq_calloc
    #define realloc fq_realloc
    #define free fq_free
    #define FQ_IS_DEBUG 1
    #else
    static uint64_t fq_fuse; static uint32_t fq_jitter; static int64_t fq_alive;
    #define fq_step() ((void)0)
    #define fq_check(holds, what) ((void)sizeof(holds), (void)sizeof(what))
    #define FQ_IS_DEBUG 0
    #endif
    """
    uint64_t fq_fuse
    uint32_t fq_jitter
    int64_t fq_alive
    void fq_step() noexcept nogil
    void fq_check(bint holds, const char* what) noexcept nogil
    bint FQ_IS_DEBUG

#: True in a debug build.
DEBUG = bool(FQ_IS_DEBUG)


def set_fuse(uint64_t steps):
    """Have this process killed at the `steps`-th step from now; 0: never. Only debug builds have steps."""
    global fq_fuse
    fq_fuse = steps


def set_jitter(uint32_t steps):
    """Have this process sleep for a moment at one of `steps` steps; 0: never. Only debug builds have steps."""
    global fq_jitter
    fq_jitter = steps


def alive():
    """Blocks of memory that the core holds at the moment; always 0 in a release."""
    return fq_alive
