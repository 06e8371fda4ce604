/* The floor: the Redis calls of a worker that does nothing else. What no worker with these guarantees can be faster than.
 *
 *     floor PORT DB QUEUE KEEP COUNT
 *
 * It claims as fastq does (SADD, LMOVE each, LLEN; SADD and BLMOVE when the queue is empty), stores a made-up result for
 * each message and announces it (SETEX, PUBLISH; with KEEP 1, nothing with 0), and acknowledges claim by claim (MULTI,
 * SREM, UNLINK, SET, EXEC). Two connections, and the next claim is on its way while one is worked on, so the server never
 * waits for it. No task is run, no message is read but for its id and its number, and there is no Python in it.
 *
 * After COUNT messages (0: never) it prints: messages, seconds from the first claim to the last confirmation, CPU seconds
 * of its own in that time.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 256, PRIORITIES = 3, LINE = 4096 };

typedef struct {
    int fd;
    char *data;             /* what has arrived and is not used yet: from `at` to `end` */
    size_t at, end, room;
    char *out;              /* what is to be sent */
    size_t size, out_room;
} Wire;

typedef struct {
    unsigned long number;
    int wanted;             /* LMOVEs sent; 0: one BLMOVE */
} Claim;

static Wire claims, flushes;
static const char *queue;
static int keep;
static int added, due;      /* replies: of the flush that is being made, of the one that is on its way */

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void *grown(void *data, size_t *room, size_t need) {
    if (need <= *room) return data;
    while (*room < need) *room = *room ? *room * 2 : 1 << 16;
    if (!(data = realloc(data, *room))) die("realloc");
    return data;
}

/* ---------------------------------------------------------------- sending */

static void add(Wire *wire, const char *data, size_t n) {
    wire->out = grown(wire->out, &wire->out_room, wire->size + n);
    memcpy(wire->out + wire->size, data, n);
    wire->size += n;
}

static void command(Wire *wire, int words, ...) {
    char head[32];
    va_list list;
    va_start(list, words);
    add(wire, head, (size_t)snprintf(head, sizeof head, "*%d\r\n", words));
    for (int i = 0; i < words; i++) {
        const char *word = va_arg(list, const char *);
        add(wire, head, (size_t)snprintf(head, sizeof head, "$%zu\r\n", strlen(word)));
        add(wire, word, strlen(word));
        add(wire, "\r\n", 2);
    }
    va_end(list);
}

static void send_out(Wire *wire) {
    for (size_t sent = 0; sent < wire->size;) {
        ssize_t n = write(wire->fd, wire->out + sent, wire->size - sent);
        if (n <= 0) die("write");
        sent += (size_t)n;
    }
    wire->size = 0;
}

/* ---------------------------------------------------------------- receiving */

static void more(Wire *wire) {
    if (wire->at) {
        memmove(wire->data, wire->data + wire->at, wire->end - wire->at);
        wire->end -= wire->at;
        wire->at = 0;
    }
    wire->data = grown(wire->data, &wire->room, wire->end + (1 << 17));
    ssize_t n = read(wire->fd, wire->data + wire->end, wire->room - wire->end);
    if (n <= 0) exit(n < 0);        /* the server has gone: so do we */
    wire->end += (size_t)n;
}

/* The first line of a reply, without its end. Valid until the next call. */
static char *line(Wire *wire) {
    char *end;
    while (!(end = memchr(wire->data + wire->at, '\n', wire->end - wire->at))) more(wire);
    char *found = wire->data + wire->at;
    end[-1] = 0;
    wire->at = (size_t)(end + 1 - wire->data);
    if (*found == '-') {
        fprintf(stderr, "the server says: %s\n", found);
        exit(1);
    }
    return found;
}

/* A bulk string: its length, or -1 for none. Valid until the next call. */
static long bulk(Wire *wire, char **found) {
    long n = atol(line(wire) + 1);
    if (n < 0) return -1;
    while (wire->end - wire->at < (size_t)n + 2) more(wire);
    *found = wire->data + wire->at;
    wire->at += (size_t)n + 2;
    return n;
}

static void skip(Wire *wire) {
    char *found = line(wire);
    long n = *found == '*' ? atol(found + 1) : 0;
    while (n-- > 0) skip(wire);
}

/* ---------------------------------------------------------------- a worker's calls */

static char *claim_key(unsigned long number) {
    static char key[LINE];
    snprintf(key, sizeof key, "floor:claim:{%s}:%lu", queue, number);
    return key;
}

static char *index_key(void) {
    static char key[LINE];
    snprintf(key, sizeof key, "floor:claims:{%s}", queue);
    return key;
}

static char *priority_key(int priority) {
    static char key[LINE];
    snprintf(key, sizeof key, "%s\x06\x16%d", queue, priority * 3);
    return key;
}

static Claim ask(int wanted) {
    static unsigned long last;
    char number[32];
    snprintf(number, sizeof number, "%lu", ++last);
    command(&claims, 3, "SADD", index_key(), number);
    for (int i = 0; i < wanted; i++) command(&claims, 5, "LMOVE", queue, claim_key(last), "RIGHT", "LEFT");
    if (!wanted) command(&claims, 6, "BLMOVE", queue, claim_key(last), "RIGHT", "LEFT", "0");
    command(&claims, 2, "LLEN", queue);
    for (int i = 1; i <= PRIORITIES; i++) command(&claims, 2, "LLEN", priority_key(i));
    send_out(&claims);
    return (Claim){last, wanted};
}

static void store(const char *message, size_t n) {
    char key[64], value[512];
    const char *id = memmem(message, n, "\"id\": \"", 7);
    const char *number = memmem(message, n, "\"argsrepr\": \"(", 14);
    if (!id || !number) {
        fprintf(stderr, "not a message of the benchmark: %.200s\n", message);
        exit(1);
    }
    snprintf(key, sizeof key, "celery-task-meta-%.36s", id + 7);
    snprintf(value, sizeof value, "{\"status\": \"SUCCESS\", \"result\": %ld, \"traceback\": null, \"children\": [], "
             "\"date_done\": \"2026-01-01T00:00:00.000000+00:00\", \"task_id\": \"%.36s\"}", atol(number + 14), id + 7);
    command(&flushes, 4, "SETEX", key, "3600", value);
    command(&flushes, 3, "PUBLISH", key, value);
    added += 2;
}

static void acknowledge(Claim claim) {
    char number[32];
    snprintf(number, sizeof number, "%lu", claim.number);
    command(&flushes, 1, "MULTI");
    command(&flushes, 3, "SREM", index_key(), number);
    command(&flushes, 2, "UNLINK", claim_key(claim.number));
    command(&flushes, 5, "SET", "floor:flush", number, "EX", "86400");
    command(&flushes, 1, "EXEC");
    send_out(&flushes);
    due = added + 5;
    added = 0;
}

static void await_flush(void) {
    for (; due; due--) skip(&flushes);
}

/* Read a claim's replies; results go into the next flush. Returns the messages, and the length of the queue. */
static long take(Claim claim, long *length) {
    long taken = 0, n;
    char *message;
    skip(&claims);
    for (int i = 0; i < (claim.wanted ? claim.wanted : 1); i++)
        if ((n = bulk(&claims, &message)) >= 0) {
            taken++;
            if (keep) store(message, (size_t)n);
        }
    *length = atol(line(&claims) + 1);
    for (int i = 0; i < PRIORITIES; i++) skip(&claims);
    return taken;
}

/* ---------------------------------------------------------------- */

static Wire dial(int port, const char *db) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    Wire wire = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
    int one = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(wire.fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(wire.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    command(&wire, 2, "SELECT", db);
    send_out(&wire);
    more(&wire);
    skip(&wire);
    return wire;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec)
        + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv) {
    long wanted, done = 0, length = 0;
    double began, cpu;
    Claim now, next;
    if (argc != 6) {
        fprintf(stderr, "usage: floor PORT DB QUEUE KEEP COUNT\n");
        return 2;
    }
    claims = dial(atoi(argv[1]), argv[2]);
    flushes = dial(atoi(argv[1]), argv[2]);
    queue = argv[3];
    keep = atoi(argv[4]);
    wanted = atol(argv[5]);
    began = seconds(), cpu = cpu_seconds();
    for (now = ask(0);; now = next) {
        int ahead;
        done += take(now, &length);
        /* The next claim goes out first when it will find something: the server has it to do while we read its answers
         * to the last flush. Waiting for a message can wait until the results are out. */
        if ((ahead = length > 0)) next = ask(length < BATCH ? (int)length : BATCH);
        await_flush();
        acknowledge(now);
        if (wanted && done >= wanted) break;
        if (!ahead) next = ask(0);
    }
    await_flush();
    printf("%ld %.6f %.6f\n", done, seconds() - began, cpu_seconds() - cpu);
    return 0;
}
