# Sleep and wake-up across processes, without polling.
#
# A sleeper announces itself in a word (sequentially consistent), looks once more, and only then sleeps. A waker
# publishes its work first and reads the word afterwards (also sequentially consistent). So either the sleeper's
# second look sees the work, or the waker sees the sleeper: never neither. Children sleep in futex(2) on their own
# word; the engine, which also waits for sockets, sleeps in epoll with an eventfd(2), and so do children that run an
# event loop.

from libc.errno cimport EAGAIN, EINTR, errno
from posix.time cimport timespec

cdef extern from *:
    """
    #include <linux/futex.h>
    #include <sys/syscall.h>
    #include <sched.h>
    #include <time.h>
    #include <unistd.h>
    #include <errno.h>

    static inline uint64_t load64(uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline uint32_t load32(uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void store64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline void store32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline uint32_t swap32(uint32_t *p, uint32_t v) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }
    /* A sleeper's announcement: whatever it reads afterwards is read after this was written. */
    static inline void announce32(uint32_t *p, uint32_t v) {
        __atomic_store_n(p, v, __ATOMIC_SEQ_CST); __atomic_thread_fence(__ATOMIC_SEQ_CST); }
    /* A waker's look at it: whatever it has written before is there before this is read. */
    static inline uint32_t look32(uint32_t *p) {
        __atomic_thread_fence(__ATOMIC_SEQ_CST); return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
    static inline int cas64(uint64_t *p, uint64_t was, uint64_t now) {
        return __atomic_compare_exchange_n(p, &was, now, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE); }
    static inline uint64_t add64(uint64_t *p, uint64_t v) { return __atomic_add_fetch(p, v, __ATOMIC_ACQ_REL); }
    static inline uint64_t or64(uint64_t *p, uint64_t v) { return __atomic_fetch_or(p, v, __ATOMIC_ACQ_REL); }
    static inline uint64_t and64(uint64_t *p, uint64_t v) { return __atomic_fetch_and(p, v, __ATOMIC_ACQ_REL); }

    /* Not FUTEX_PRIVATE: the word lies in memory shared between processes. */
    static inline int futex_wait(uint32_t *word, uint32_t value, const struct timespec *limit) {
        return (int)syscall(SYS_futex, word, FUTEX_WAIT, value, limit, NULL, 0); }
    static inline int futex_wake(uint32_t *word) {
        return (int)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0); }
    static inline void signal_eventfd(int fd) {
        uint64_t one = 1; ssize_t n; do { n = write(fd, &one, 8); } while (n < 0 && errno == EINTR); }
    static inline uint64_t monotonic_ns(void) {
        struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec; }
    static inline double unix_time(void) {
        struct timespec t; clock_gettime(CLOCK_REALTIME, &t);
        return (double)t.tv_sec + (double)t.tv_nsec * 1e-9; }
    """
    uint64_t load64(uint64_t*) noexcept nogil
    uint32_t load32(uint32_t*) noexcept nogil
    void store64(uint64_t*, uint64_t) noexcept nogil
    void store32(uint32_t*, uint32_t) noexcept nogil
    uint32_t swap32(uint32_t*, uint32_t) noexcept nogil
    void announce32(uint32_t*, uint32_t) noexcept nogil
    uint32_t look32(uint32_t*) noexcept nogil
    bint cas64(uint64_t*, uint64_t, uint64_t) noexcept nogil
    uint64_t add64(uint64_t*, uint64_t) noexcept nogil
    uint64_t or64(uint64_t*, uint64_t) noexcept nogil
    uint64_t and64(uint64_t*, uint64_t) noexcept nogil
    int futex_wait(uint32_t*, uint32_t, const timespec*) noexcept nogil
    int futex_wake(uint32_t*) noexcept nogil
    void signal_eventfd(int) noexcept nogil
    uint64_t monotonic_ns() noexcept nogil
    double unix_time() noexcept nogil
    int sched_yield() noexcept nogil


cdef inline void wake_child(fq_slot* slot, int waker) noexcept nogil:
    # Called after the frame's head has been published. `waker`: the eventfd of a child that runs an event loop; while
    # it is not known yet (-1), whoever makes it known wakes.
    cdef uint32_t how
    fq_step()
    if look32(&slot.child_wait) == FQ_UP:
        return
    how = swap32(&slot.child_wait, FQ_UP)
    fq_step()
    if how == FQ_IN_FUTEX:
        futex_wake(&slot.child_wait)
    elif how == FQ_IN_LOOP and waker >= 0:
        signal_eventfd(waker)


cdef inline void wake_for_room(fq_slot* slot) noexcept nogil:
    fq_step()
    if look32(&slot.result_wait) and swap32(&slot.result_wait, 0):
        fq_step()
        futex_wake(&slot.result_wait)


cdef inline void wake_engine(fq_header* header, int eventfd, bint hungry) noexcept nogil:
    # An engine that waits for a flush wants no result, only a child that has nothing left to do.
    cdef uint32_t wants
    fq_step()
    wants = look32(&header.engine_wait)
    if wants == FQ_AWAKE or (wants == FQ_WAKE_HUNGRY and not hungry):
        return
    if swap32(&header.engine_wait, FQ_AWAKE) != FQ_AWAKE:
        fq_step()
        signal_eventfd(eventfd)
