// wsload: a load generator that speaks the iii worker protocol over WebSocket.
//
// One thread and one epoll loop, so that it can be pinned to one core. The load is a closed loop:
// every connection keeps a fixed number of requests in flight and sends the next one when a reply
// arrives. With --rate it is an open one: requests are sent at even intervals, whatever comes back,
// and every time counts from when its request was due. Requests are copies of three prepared texts
// (set, get, update) in which only the invocation id, the key and a number change, so that making
// one costs a fraction of a microsecond and the server is what gets measured. Prints a line of JSON
// that `benchmarks/README.md` explains.
//
// Build: gcc -O2 -Wall -Wextra -o wsload wsload.c
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_USAGE = 1, EXIT_CONNECT = 2, EXIT_LOST = 3, EXIT_STALLED = 4 };
enum { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };
enum { SET, GET, UPDATE, OPERATIONS };

static struct {
    int port, connections, depth, value_bytes, key_width, triggers, others;
    uint32_t keys;
    int percent[OPERATIONS];
    uint64_t load;      // end after so many requests; 0: run for `seconds`
    uint64_t catch_up;  // no load; end after the events of so many writes of a --load
    uint64_t interval;  // nanoseconds between requests; 0: a closed loop
    double seconds, warmup, rate;
    bool sequential, sdk_order, handler, with_revision;
    const char *path, *scope, *prefix, *durable;
} options = {.port = 49134, .connections = 1, .depth = 1, .value_bytes = 100, .key_width = 8,
             .triggers = 1, .keys = 10000, .percent = {100, 0, 0}, .seconds = 4, .warmup = 1,
             .path = "/", .scope = "bench", .prefix = "key-"};

static void fail(int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("wsload: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(status);
}

// ---- clock, random numbers, histogram ------------------------------------------------------

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static uint32_t random_state = 1;

static uint32_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

// Buckets grow with the value: 32 per power of two, so a percentile is at most 3 % too low.
#define BUCKETS 2048
struct histogram {
    uint64_t bucket[BUCKETS], count, max;
};

static int bucket_of(uint64_t value) {
    if (value < 64) return value;
    int shift = 63 - __builtin_clzll(value) - 5;
    return shift * 32 + ((value >> shift) & 31) + 32;
}

static uint64_t bucket_floor(int index) {
    if (index < 64) return index;
    int shift = (index - 32) / 32;
    return (uint64_t)(32 + (index & 31)) << shift;
}

static void record(struct histogram *histogram, uint64_t value) {
    histogram->bucket[bucket_of(value)]++;
    histogram->count++;
    if (value > histogram->max) histogram->max = value;
}

static uint64_t percentile(const struct histogram *histogram, double fraction) {
    uint64_t target = fraction * histogram->count, seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += histogram->bucket[i]) > target) return bucket_floor(i);
    return histogram->max;
}

static void print_percentiles(const char *prefix, const struct histogram *h) {
    printf(",\"%sp50\":%.1f,\"%sp90\":%.1f,\"%sp99\":%.1f,\"%sp999\":%.1f,\"%smax\":%.1f",
           prefix, percentile(h, .5) / 1e3, prefix, percentile(h, .9) / 1e3, prefix,
           percentile(h, .99) / 1e3, prefix, percentile(h, .999) / 1e3, prefix, h->max / 1e3);
}

// ---- what was counted ----------------------------------------------------------------------

static struct {
    bool measuring;
    uint64_t started, ended;       // of the measured time
    uint64_t issued, completed;    // of the whole run
    uint64_t errors, events, received_bytes;
    uint64_t last_reply, longest_gap, last_event;
    uint64_t due;      // when the next request is to be sent, unless the loop is closed
    uint64_t awaited;  // events of the numbered writes below that have not come yet
    struct histogram latency, lag;
    struct rusage usage;  // at `started`
} run;

// ---- numbered writes -----------------------------------------------------------------------

// The handler knows a write by the number in its value, where writes have one: with --rate, and
// with --load for the --catch-up after it. So none can be missed, or come twice, unnoticed.
struct write {
    uint64_t due;
    int awaited;
};
static struct write *writes;

#define NEVER UINT64_MAX

static void expect_events(void) {
    run.due = NEVER;
    if (!options.handler) options.triggers = 0;
    if (!options.interval && !options.catch_up) return;
    writes = calloc(options.load + options.catch_up, sizeof *writes);
    if (!writes) fail(EXIT_USAGE, "out of memory");
    for (uint64_t i = 0; i < options.catch_up; i++) writes[i].awaited = options.triggers;
    run.awaited = options.catch_up * options.triggers;
}

static void on_numbered_event(uint64_t number, uint64_t now) {
    if (number >= options.load + options.catch_up || !writes[number].awaited) {
        run.errors++;
        return;
    }
    run.awaited--;
    run.events += run.measuring;
    run.last_event = now;
    if (--writes[number].awaited) return;
    if (options.interval && run.measuring && writes[number].due >= run.started)
        record(&run.lag, now - writes[number].due);
    if (options.catch_up && !run.awaited) run.due = now;
}

// ---- prepared requests ---------------------------------------------------------------------

// All ids share this beginning; the last 12 hex digits name sequence, connection and slot.
#define ID_PREFIX "0f8fad5b-d9cb-469f-a165-"
#define ID_DIGITS 12

struct request {
    char *text;
    size_t length, id_at, key_at, number_at;  // number_at: 0 when nothing in the value changes
};
static struct request requests[OPERATIONS];

// A JSON object of exactly `bytes` bytes (at least 54) with a member for every 17 of them.
static char *make_value(int bytes) {
    char *value = malloc(bytes + 128);
    if (bytes <= 8) return strcpy(value, "1");
    int n = sprintf(value, "{\"id\":12345,\"name\":\"user-name\",\"ok\":true,\"n\":10000000");
    for (int i = 0; n < bytes - 30; i++) n += sprintf(value + n, ",\"f%d\":\"abcdefgh%d\"", i, i);
    if (n < bytes - 8) {
        n += sprintf(value + n, ",\"p\":\"");
        while (n < bytes - 2) value[n++] = 'x';
        value[n++] = '"';
    }
    strcpy(value + n, "}");
    return value;
}

static void prepare(struct request *request, const char *function, const char *rest) {
    char *data;
    if (asprintf(&data, "{\"scope\":\"%s\",\"key\":\"%s%0*d\"%s%s}", options.scope, options.prefix,
                 options.key_width, 0, rest,
                 options.with_revision ? ",\"with_revision\":true" : "") < 0)
        fail(EXIT_USAGE, "out of memory");
    const char *format = options.sdk_order
        ? "{\"function_id\":\"%3$s\",\"data\":%2$s,\"invocation_id\":\"%1$s000000000000\","
          "\"type\":\"invokefunction\"}"
        : "{\"type\":\"invokefunction\",\"invocation_id\":\"%1$s000000000000\","
          "\"function_id\":\"%3$s\",\"data\":%2$s}";
    int length = asprintf(&request->text, format, ID_PREFIX, data, function);
    request->length = length;
    request->id_at = strstr(request->text, ID_PREFIX) - request->text + strlen(ID_PREFIX);
    char *key = strstr(request->text, "\"key\":\"") + 7;
    request->key_at = key + strlen(options.prefix) - request->text;
    char *number = strstr(request->text, "\"n\":1");
    request->number_at = number ? number - request->text + 5 : 0;
    free(data);
}

static void prepare_requests(void) {
    char *value;
    if (asprintf(&value, ",\"value\":%s", make_value(options.value_bytes)) < 0) exit(EXIT_USAGE);
    prepare(&requests[SET], "state::set", value);
    prepare(&requests[GET], "state::get", "");
    prepare(&requests[UPDATE], "state::update",
            ",\"ops\":[{\"type\":\"increment\",\"path\":\"n\",\"by\":1}]");
    free(value);
}

static void put_decimal(char *at, int width, uint32_t number) {
    for (int i = width - 1; i >= 0; i--, number /= 10) at[i] = '0' + number % 10;
}

static void put_id(char *at, uint64_t id) {
    for (int i = ID_DIGITS - 1; i >= 0; i--, id >>= 4) at[i] = "0123456789abcdef"[id & 15];
}

static uint64_t parse_id(const uint8_t *at) {
    uint64_t id = 0;
    for (int i = 0; i < ID_DIGITS; i++)
        id = id << 4 | (at[i] <= '9' ? at[i] - '0' : at[i] - 'a' + 10);
    return id;
}

static struct request *choose_operation(void) {
    if (options.catch_up) return &requests[GET];
    int ticket = next_random() % 100;
    if (ticket < options.percent[SET]) return &requests[SET];
    if (ticket < options.percent[SET] + options.percent[GET]) return &requests[GET];
    return &requests[UPDATE];
}

// ---- connections ---------------------------------------------------------------------------

struct buffer {
    uint8_t *data;
    size_t start, end, capacity;
};

struct connection {
    int fd, id;
    bool handler, waits_to_write;
    struct buffer in, out;
    uint64_t *sent;  // per slot: when its request was sent; 0 while the slot is free
    int *freed, freed_count;
};

static int epoll;

// Makes room for `bytes` more at the end.
static void reserve(struct buffer *buffer, size_t bytes) {
    if (buffer->start == buffer->end) buffer->start = buffer->end = 0;
    if (buffer->end + bytes <= buffer->capacity) return;
    memmove(buffer->data, buffer->data + buffer->start, buffer->end - buffer->start);
    buffer->end -= buffer->start;
    buffer->start = 0;
    if (buffer->end + bytes <= buffer->capacity) return;
    while (buffer->end + bytes > buffer->capacity)
        buffer->capacity = buffer->capacity ? buffer->capacity * 2 : 1 << 18;
    buffer->data = realloc(buffer->data, buffer->capacity);
    if (!buffer->data) fail(EXIT_LOST, "out of memory");
}

// Queues one masked frame, as a client must send it.
static void append_frame(struct connection *c, int opcode, const void *payload, size_t length) {
    reserve(&c->out, length + 14);
    uint8_t *out = c->out.data + c->out.end;
    *out++ = 0x80 | opcode;
    if (length < 126) {
        *out++ = 0x80 | length;
    } else if (length < 65536) {
        *out++ = 0x80 | 126;
        *out++ = length >> 8;
        *out++ = length;
    } else {
        *out++ = 0x80 | 127;
        for (int shift = 56; shift >= 0; shift -= 8) *out++ = (uint64_t)length >> shift;
    }
    uint32_t mask = next_random();
    memcpy(out, &mask, 4);
    out += 4;
    uint64_t wide_mask = (uint64_t)mask << 32 | mask, word;
    const uint8_t *in = payload;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        memcpy(&word, in + i, 8);
        word ^= wide_mask;
        memcpy(out + i, &word, 8);
    }
    for (; i < length; i++) out[i] = in[i] ^ ((uint8_t *)&mask)[i & 3];
    c->out.end = out + length - c->out.data;
}

static void append_text(struct connection *c, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof text) fail(EXIT_USAGE, "scope too long");
    append_frame(c, TEXT, text, length);
}

static void watch(struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(epoll, operation, c->fd, &event);
}

static void flush(struct connection *c) {
    while (c->out.start < c->out.end) {
        ssize_t n = write(c->fd, c->out.data + c->out.start, c->out.end - c->out.start);
        if (n < 0 && errno == EAGAIN) {
            if (!c->waits_to_write) watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            c->waits_to_write = true;
            return;
        }
        if (n < 0) fail(EXIT_LOST, "write: %s", strerror(errno));
        c->out.start += n;
    }
    if (c->waits_to_write) watch(c, EPOLL_CTL_MOD, EPOLLIN);
    c->waits_to_write = false;
}

static void receive(struct connection *c) {
    reserve(&c->in, 1 << 18);
    ssize_t n = read(c->fd, c->in.data + c->in.end, c->in.capacity - c->in.end);
    if (n == 0) fail(EXIT_LOST, "the server closed a connection");
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) fail(EXIT_LOST, "read: %s", strerror(errno));
    c->in.end += n;
    if (run.measuring) run.received_bytes += n;
}

static void connect_websocket(struct connection *c, int id) {
    c->id = id;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(c->fd, (void *)&address, sizeof address))
        fail(EXIT_CONNECT, "connect to 127.0.0.1:%d: %s", options.port, strerror(errno));
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    dprintf(c->fd, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n", options.path, options.port);
    uint8_t *end = NULL;
    while (!end) {
        receive(c);
        end = memmem(c->in.data, c->in.end, "\r\n\r\n", 4);
    }
    if (memcmp(c->in.data, "HTTP/1.1 101", 12))
        fail(EXIT_CONNECT, "not upgraded: %.*s", (int)c->in.end, c->in.data);
    c->in.start = end + 4 - c->in.data;
}

// ---- the load ------------------------------------------------------------------------------

// Sends the next request in this slot, unless a `--load` run has none left.
static void issue(struct connection *c, int slot, uint64_t now) {
    if (options.load && run.issued == options.load) return;
    struct request *request = choose_operation();
    bool in_order = options.load || options.sequential;
    uint32_t key = in_order ? run.issued % options.keys : next_random() % options.keys;
    uint64_t id = (run.issued & 0xffff) << 32 | (uint64_t)c->id << 16 | slot;
    put_id(request->text + request->id_at, id);
    put_decimal(request->text + request->key_at, options.key_width, key);
    uint32_t number = options.load ? run.issued : next_random();
    if (request->number_at) put_decimal(request->text + request->number_at, 7, number);
    append_frame(c, TEXT, request->text, request->length);
    c->sent[slot] = now;
    run.issued++;
}

static void issue_freed(struct connection *c) {
    for (uint64_t now = now_ns(); c->freed_count;) issue(c, c->freed[--c->freed_count], now);
}

// Sends what is due. It counts as sent when it was due, so that a wait for a slot is not hidden.
static void send_due(struct connection *c, uint64_t now) {
    while (run.due <= now && c->freed_count) {
        if (options.interval) {
            writes[run.issued] = (struct write){run.due, options.triggers};
            run.awaited += options.triggers;
        }
        issue(c, c->freed[--c->freed_count], run.due);
        run.due += options.interval;
        if (!options.interval || run.issued == options.load) run.due = NEVER;
    }
    if (!c->waits_to_write) flush(c);
}

static void on_reply(struct connection *c, uint64_t id, bool is_error, uint64_t now) {
    int slot = id & 0xffff;
    if ((int)(id >> 16 & 0xffff) != c->id || slot >= options.depth || !c->sent[slot]) {
        run.errors++;  // a reply to something else, or a second one
        return;
    }
    run.errors += is_error;
    run.completed++;
    if (run.measuring) {
        record(&run.latency, now - c->sent[slot]);
        if (run.last_reply > run.started && now - run.last_reply > run.longest_gap)
            run.longest_gap = now - run.last_reply;
    }
    run.last_reply = now;
    c->sent[slot] = 0;
    c->freed[c->freed_count++] = slot;
}

// ---- the handler ---------------------------------------------------------------------------

#define HANDLER "bench::on_change"
#define BOUND "wsload-bound"

// The number that `issue` put into the new value of this event; NEVER when there is none.
static uint64_t number_in(const uint8_t *text, size_t length) {
    const char *mark = "\"n\":1";
    const uint8_t *value = memmem(text, length, "\"new_value\":", 12), *number = NULL;
    if (value) number = memmem(value, text + length - value, mark, strlen(mark));
    return number ? strtoull((const char *)number + strlen(mark), NULL, 10) : NEVER;
}

static void on_event(struct connection *c, const uint8_t *text, size_t length) {
    const char *mark = "\"invocation_id\":\"", *stamp_mark = "\"timestamp_ms\":";
    const uint8_t *id = memmem(text, length, mark, strlen(mark)), *id_end = NULL;
    if (id) id += strlen(mark);
    if (id) id_end = memchr(id, '"', text + length - id);
    if (!id_end) return;
    append_text(c, "{\"type\":\"invocationresult\",\"invocation_id\":\"%.*s\","
                "\"function_id\":\"" HANDLER "\",\"result\":null}", (int)(id_end - id), id);
    if (writes) {
        on_numbered_event(number_in(text, length), now_ns());
        return;
    }
    if (!run.measuring) return;
    run.events++;
    const uint8_t *stamp = memmem(text, length, stamp_mark, strlen(stamp_mark));
    if (!stamp) return;
    uint64_t wrote = strtoull((const char *)stamp + strlen(stamp_mark), NULL, 10) * 1000000u;
    uint64_t now = clock_ns(CLOCK_REALTIME);
    record(&run.lag, now > wrote ? now - wrote : 0);
}

// Registrations wait until the worker has announced itself, hence the first call. Calls on a
// connection are executed in order, so the reply to the last one means that the triggers are live.
static void register_handler(struct connection *c) {
    append_text(c, "{\"type\":\"invokefunction\",\"function_id\":\"engine::workers::register\","
                "\"data\":{\"runtime\":\"c\",\"name\":\"wsload\",\"pid\":%d},"
                "\"action\":{\"type\":\"void\"}}", getpid());
    append_text(c, "{\"type\":\"registerfunction\",\"id\":\"" HANDLER "\"}");
    for (int i = 0; i < options.triggers; i++)
        append_text(c, "{\"type\":\"registertrigger\",\"id\":\"wsload-%d-%d\","
                    "\"trigger_type\":\"state\",\"function_id\":\"" HANDLER "\","
                    "\"config\":{\"scope\":\"%s\"%s%s%s}}", getpid(), i, options.scope,
                    options.durable ? ",\"durable\":\"" : "",
                    options.durable ? options.durable : "", options.durable ? "\"" : "");
    for (int i = 0; i < options.others; i++)
        append_text(c, "{\"type\":\"registertrigger\",\"id\":\"wsload-other-%d-%d\","
                    "\"trigger_type\":\"state\",\"function_id\":\"" HANDLER "\","
                    "\"config\":{\"scope\":\"other-%d\"}}", getpid(), i, i);
    append_text(c, "{\"type\":\"invokefunction\",\"invocation_id\":\"" BOUND "\","
                "\"function_id\":\"state::get\",\"data\":{\"scope\":\"\",\"key\":\"\"}}");
    flush(c);
    while (!memmem(c->in.data + c->in.start, c->in.end - c->in.start, BOUND, strlen(BOUND)))
        receive(c);
}

// ---- incoming frames -----------------------------------------------------------------------

static void on_text(struct connection *c, const uint8_t *text, size_t length, uint64_t now) {
    size_t head = length < 300 ? length : 300;  // ids and errors stand before the values
    const uint8_t *id = memmem(text, head, ID_PREFIX, strlen(ID_PREFIX));
    if (id && (size_t)(id - text) + strlen(ID_PREFIX) + ID_DIGITS <= length) {
        bool is_error = memmem(text, head, "\"error\":{", 9);
        if (is_error && run.errors < 3) fprintf(stderr, "wsload: %.*s\n", (int)head, text);
        on_reply(c, parse_id(id + strlen(ID_PREFIX)), is_error, now);
    } else if (c->handler && memmem(text, length, "\"invokefunction\"", 16)) {
        on_event(c, text, length);
    }
}

// Handles the first whole frame that was received; false when there is none.
static bool handle_frame(struct connection *c, uint64_t now) {
    size_t available = c->in.end - c->in.start, head = 2;
    const uint8_t *frame = c->in.data + c->in.start;
    if (available < head) return false;
    uint64_t length = frame[1] & 127;
    if (length >= 126) {
        head = length == 126 ? 4 : 10;
        if (available < head) return false;
        length = 0;
        for (size_t i = 2; i < head; i++) length = length << 8 | frame[i];
    }
    if (available < head + length) return false;
    int opcode = frame[0] & 15;
    if (opcode == TEXT) on_text(c, frame + head, length, now);
    if (opcode == PING) append_frame(c, PONG, frame + head, length);
    if (opcode == CLOSE) fail(EXIT_LOST, "the server sent a close frame");
    c->in.start += head + length;
    return true;
}

static void serve(struct connection *c, uint32_t events) {
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        receive(c);
        uint64_t now = now_ns();
        while (handle_frame(c, now)) continue;
        if (!writes) issue_freed(c);
    }
    if (!c->waits_to_write || events & EPOLLOUT) flush(c);
}

// ---- the run -------------------------------------------------------------------------------

static struct connection *open_connections(int count) {
    struct connection *all = calloc(count, sizeof *all);
    epoll = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        struct connection *c = &all[i];
        c->handler = i == options.connections;
        connect_websocket(c, i);
        if (c->handler) register_handler(c);
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
        c->sent = calloc(options.depth, sizeof *c->sent);
        c->freed = calloc(options.depth, sizeof *c->freed);
        if (!c->handler || options.catch_up)
            for (; c->freed_count < options.depth; c->freed_count++)
                c->freed[c->freed_count] = c->freed_count;
        while (handle_frame(c, now_ns())) continue;  // events may have come already
        flush(c);
    }
    return all;
}

static void start_measuring(uint64_t now) {
    run.measuring = true;
    run.started = now;
    getrusage(RUSAGE_SELF, &run.usage);
}

static bool is_over(uint64_t now) {
    if (options.catch_up) return run.completed;  // a call after the last result was answered
    if (options.load) return run.completed == options.load && !run.awaited;
    return run.measuring && now >= run.started + (uint64_t)(options.seconds * 1e9);
}

static int timer;

// Wakes the loop at every multiple of the interval from `start` on, with no connection.
static void start_ticking(uint64_t start) {
    struct timespec first = {start / 1000000000u, start % 1000000000u};
    struct timespec interval = {options.interval / 1000000000u, options.interval % 1000000000u};
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &(struct itimerspec){interval, first}, NULL);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event);
}

static void start_load(struct connection *all, uint64_t now) {
    if (options.interval) {
        run.due = now;
        start_ticking(now);
        return;
    }
    for (int i = 0; i < options.connections; i++) {
        issue_freed(&all[i]);
        flush(&all[i]);
    }
}

static void run_load(struct connection *all) {
    uint64_t now = now_ns(), warm = now + (uint64_t)(options.warmup * 1e9);
    if (options.load && !options.interval) start_measuring(now);
    run.last_reply = now;
    start_load(all, now);
    struct epoll_event events[256];
    while (!is_over(now)) {
        int count = epoll_wait(epoll, events, 256, 50);
        for (int i = 0; i < count; i++) {
            uint64_t ticks;  // the clock says what is due; the timer only has to be read
            if (events[i].data.ptr) serve(events[i].data.ptr, events[i].events);
            else if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN)
                fail(EXIT_LOST, "timer: %s", strerror(errno));
        }
        now = now_ns();
        if (!run.measuring && now >= warm) start_measuring(now);
        if (writes) send_due(all, now);
        uint64_t heard = run.last_reply > run.last_event ? run.last_reply : run.last_event;
        if ((options.connections || writes) && now > heard + 15000000000u)
            fail(EXIT_STALLED, "nothing came for 15 seconds");
    }
    run.ended = now;
}

static double cpu_seconds(const struct rusage *usage) {
    return usage->ru_utime.tv_sec + usage->ru_stime.tv_sec +
           (usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1e6;
}

static void report(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double seconds = (run.ended - run.started) / 1e9;
    double cpu = (cpu_seconds(&usage) - cpu_seconds(&run.usage)) / seconds;
    printf("{\"rps\":%.1f,\"n\":%lu,\"errs\":%lu,\"seconds\":%.3f,\"ccpu\":%.2f,\"mbps\":%.1f",
           run.latency.count / seconds, run.latency.count, run.errors, seconds, cpu,
           run.received_bytes / seconds / 1e6);
    print_percentiles("", &run.latency);
    printf(",\"gap\":%.1f", run.longest_gap / 1e3);
    if (options.handler) {
        printf(",\"events\":%lu,\"events_per_s\":%.1f", run.events, run.events / seconds);
        print_percentiles("lag_", &run.lag);
    }
    puts("}");
}

static const char usage_text[] =
    "usage: wsload [options]; load from one thread, one line of JSON at the end\n"
    "  -p PORT -u PATH       where on 127.0.0.1 (49134, /)\n"
    "  -c N -d N             connections (1; 0 with --handler: no load), in flight on each (1)\n"
    "  -t S -w S             seconds measured (4), seconds before that (1)\n"
    "  -v BYTES -k KEYS      size of a value (100), number of keys (10000)\n"
    "  -m SET[/GET[/UPDATE]] percentages of the operations (100/0/0)\n"
    "  --scope S --key-prefix P --key-width N\n"
    "                        plain text (bench), (key-), digits in a key (8)\n"
    "  --sequential          keys one after another instead of at random\n"
    "  --load N              write N distinct keys once and end; -k after it: go round so many\n"
    "  --rate N              N requests a second at even intervals, from the first connection;\n"
    "                        with --handler, lag_ is from when a write was due to its last event\n"
    "  --handler             also bind a function to the scope's changes and answer its calls\n"
    "  --triggers N          so many bindings for it (1)\n"
    "  --catch-up N          only handle the events of a --load of N, each once, and end\n"
    "  --durable NAME        they keep their place under this name\n"
    "  --others N            so many more bindings, of scopes that nothing is written to (0)\n"
    "  --with-revision       ask for the revision with every operation\n"
    "  --seed N              of the random numbers (1)\n"
    "  --sdk                 members in the order the Python SDK sends them\n";

// What the options that number writes ask of the others; a number has seven digits.
static void check_numbering(void) {
    if (options.rate > 0) {
        options.interval = 1e9 / options.rate;
        options.load = options.rate * (options.warmup + options.seconds);
    }
    if (!options.interval && !options.catch_up) return;
    uint64_t count = options.load + options.catch_up;
    if (options.value_bytes < 54 || count < 1 || count > 10000000)
        fail(EXIT_USAGE, "--rate and --catch-up need values of 54 bytes, and 1 to 10M writes");
    if (options.catch_up && (!options.handler || options.connections || options.load))
        fail(EXIT_USAGE, "--catch-up goes with --handler and -c 0, and no load");
    if (options.interval && options.percent[SET] != 100)
        fail(EXIT_USAGE, "--rate is for sets");
}

static void parse_options(int count, char **arguments) {
    enum { SCOPE = 256, PREFIX, WIDTH, SEQUENTIAL, LOAD, HANDLE, TRIGGERS, SEED, SDK, DURABLE,
           OTHERS, REVISION, RATE, CATCH_UP };
    static const struct option names[] = {
        {"scope", 1, 0, SCOPE}, {"key-prefix", 1, 0, PREFIX}, {"key-width", 1, 0, WIDTH},
        {"sequential", 0, 0, SEQUENTIAL}, {"load", 1, 0, LOAD}, {"handler", 0, 0, HANDLE},
        {"triggers", 1, 0, TRIGGERS}, {"seed", 1, 0, SEED}, {"sdk", 0, 0, SDK},
        {"durable", 1, 0, DURABLE}, {"others", 1, 0, OTHERS},
        {"with-revision", 0, 0, REVISION}, {"rate", 1, 0, RATE}, {"catch-up", 1, 0, CATCH_UP},
        {0, 0, 0, 0}};
    int *percent = options.percent;
    for (int o; (o = getopt_long(count, arguments, "p:u:c:d:t:w:v:k:m:", names, 0)) != -1;) {
        switch (o) {
        case 'p': options.port = atoi(optarg); break;
        case 'u': options.path = optarg; break;
        case 'c': options.connections = atoi(optarg); break;
        case 'd': options.depth = atoi(optarg); break;
        case 't': options.seconds = atof(optarg); break;
        case 'w': options.warmup = atof(optarg); break;
        case 'v': options.value_bytes = atoi(optarg); break;
        case 'k': options.keys = strtoul(optarg, 0, 10); break;
        case 'm':
            percent[SET] = percent[GET] = percent[UPDATE] = 0;
            sscanf(optarg, "%d/%d/%d", &percent[SET], &percent[GET], &percent[UPDATE]);
            break;
        case SCOPE: options.scope = optarg; break;
        case PREFIX: options.prefix = optarg; break;
        case WIDTH: options.key_width = atoi(optarg); break;
        case SEQUENTIAL: options.sequential = true; break;
        case LOAD: options.load = options.keys = strtoul(optarg, 0, 10); break;
        case HANDLE: options.handler = true; break;
        case TRIGGERS: options.triggers = atoi(optarg); break;
        case SEED: random_state = strtoul(optarg, 0, 10); break;
        case SDK: options.sdk_order = true; break;
        case DURABLE: options.durable = optarg; break;
        case OTHERS: options.others = atoi(optarg); break;
        case REVISION: options.with_revision = true; break;
        case RATE: options.rate = atof(optarg); break;
        case CATCH_UP: options.catch_up = strtoul(optarg, 0, 10); break;
        default: fputs(usage_text, stderr); exit(EXIT_USAGE);
        }
    }
    if (percent[SET] + percent[GET] + percent[UPDATE] != 100)
        fail(EXIT_USAGE, "-m: the percentages must add up to 100");
    if (options.connections < !options.handler || options.connections > 4096 ||
        options.depth < 1 || options.depth > 65535 || !options.keys || !random_state)
        fail(EXIT_USAGE, "-c, -d, -k or --seed is out of range");
    check_numbering();
}

int main(int count, char **arguments) {
    parse_options(count, arguments);
    prepare_requests();
    expect_events();
    if (options.catch_up) start_measuring(now_ns());  // from before it connects
    run_load(open_connections(options.connections + options.handler));
    report();
}
