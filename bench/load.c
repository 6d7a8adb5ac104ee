/*
 * A load generator for IPMI 2.0 servers (RMCP+, cipher suites 3 and 17), written in C so that it is not what is
 * measured: one process, one thread, many clients, each of which sends its next request when the answer to the last
 * one has been found right.
 *
 * Every answer is checked: session id, sequence number, integrity check value, padding, both checksums of the message,
 * addresses, sequence number and command of the request, completion code, and the power state where one is told;
 * in the handshake the key exchange codes of RAKP 2 and 4.
 *
 * The server's CPU time is read from the system for the measured part alone (nanoseconds, all threads, user and
 * system). Prints one JSON object.
 *
 * With --burst all clients send at once, and again so many seconds later: for what should not be done without a pause.
 *
 *   cc -O2 -o load load.c -lcrypto
 *   load --port 623 --test status --clients 16 --seconds 2 --suite 17 --bridge 0:1 --pid 4711
 */

#define _GNU_SOURCE
#define OPENSSL_SUPPRESS_DEPRECATED /* the low-level hashes: a keyed state is copied, as the server does */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <openssl/aes.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PACKET = 1024, MAX_STEPS = 16, MAX_PIDS = 64, MAX_TARGETS = 4096 };
static const double RESEND_AFTER = 1.0; /* seconds; ipmitool's */
static const int MAX_RESENDS = 8;

/* --- what is asked ------------------------------------------------------------------------------------------- */

enum kind { CAPABILITIES, OPEN, RAKP1, RAKP3, COMMAND, CLOSE };

struct step {
    enum kind kind;
    uint8_t netfn, command, data[8];
    int length;
    int any_code; /* a probe: servers may refuse it */
    int bridged;
    int tells_power;
};

static const struct step LOGIN[] = {{.kind = OPEN}, {.kind = RAKP1}, {.kind = RAKP3}};
static const struct step STATUS = {.kind = COMMAND, .netfn = 0x00, .command = 0x01, .bridged = 1, .tells_power = 1};
static const struct step DEVICE_ID = {.kind = COMMAND, .netfn = 0x06, .command = 0x01, .bridged = 1};
static const struct step POWER = {.kind = COMMAND, .command = 0x02, .data = {3}, .length = 1, .bridged = 1}; /* reset */
static const struct step LOGOUT = {.kind = CLOSE};
/* What one `ipmitool -I lanplus -C 3 power status` sends around the handshake and the status. */
static const struct step SET_PRIVILEGE = {.kind = COMMAND, .netfn = 0x06, .command = 0x3b, .data = {4}, .length = 1};
static const struct step PROBES[] = {
    {.kind = COMMAND, .netfn = 0x2c, .command = 0x3e, .data = {0}, .length = 1, .any_code = 1},
    {.kind = COMMAND, .netfn = 0x06, .command = 0x01},
    {.kind = COMMAND, .netfn = 0x2c, .command = 0x00, .data = {0}, .length = 1, .any_code = 1},
    {.kind = COMMAND, .netfn = 0x2c, .command = 0x00, .data = {3}, .length = 1, .any_code = 1},
};

/* --- settings ------------------------------------------------------------------------------------------------- */

static struct {
    const char *host, *test, *user, *password;
    int port, suite, clients, sockets, at_once, targets, pids, hold, power, spread;
    double seconds, warmup, burst;
    long count;
    uint8_t channel[MAX_TARGETS], address[MAX_TARGETS];
    clockid_t clocks[MAX_PIDS];
} options = {.host = "127.0.0.1", .test = "status", .user = "admin", .password = "secret", .port = 623, .suite = 3,
             .clients = 16, .sockets = 512, .at_once = 64, .seconds = 2, .warmup = 0.3, .power = -1};

static struct step setup[MAX_STEPS], loop[MAX_STEPS], teardown[MAX_STEPS];
static int setup_steps, loop_steps, teardown_steps;

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double cpu_of(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t)) die("the server is gone");
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double server_cpu(void) {
    double sum = 0;
    for (int i = 0; i < options.pids; i++) sum += cpu_of(options.clocks[i]);
    return sum;
}

/* --- keyed hashes --------------------------------------------------------------------------------------------- */

typedef union {
    SHA_CTX sha1;
    SHA256_CTX sha256;
} hash;
struct mac {
    hash inner, outer;
};

static int sha256(void) { return options.suite == 17; }
static int digest_length(void) { return sha256() ? 32 : 20; }
static int check_length(void) { return sha256() ? 16 : 12; }

static void hash_start(hash *h, const uint8_t *block) {
    if (sha256()) SHA256_Init(&h->sha256), SHA256_Update(&h->sha256, block, 64);
    else SHA1_Init(&h->sha1), SHA1_Update(&h->sha1, block, 64);
}

static void hash_end(hash *h, const uint8_t *data, size_t length, uint8_t *out) {
    if (sha256()) SHA256_Update(&h->sha256, data, length), SHA256_Final(out, &h->sha256);
    else SHA1_Update(&h->sha1, data, length), SHA1_Final(out, &h->sha1);
}

static void mac_key(struct mac *m, const uint8_t *key, int length) {
    uint8_t inner[64], outer[64];
    memset(inner, 0x36, 64);
    memset(outer, 0x5c, 64);
    for (int i = 0; i < length; i++) inner[i] ^= key[i], outer[i] ^= key[i];
    hash_start(&m->inner, inner);
    hash_start(&m->outer, outer);
}

static void mac_of(const struct mac *m, const uint8_t *data, size_t length, uint8_t *out) {
    hash inner = m->inner, outer = m->outer;
    uint8_t digest[32];
    hash_end(&inner, data, length, digest);
    hash_end(&outer, digest, digest_length(), out);
}

static void random_octets(uint8_t *out, int count) {
    static uint8_t pool[65536];
    static size_t left;
    if (left < (size_t)count) {
        if (RAND_bytes(pool, sizeof pool) != 1) die("no random octets");
        left = sizeof pool;
    }
    memcpy(out, pool + sizeof pool - left, count);
    left -= count;
}

/* --- clients -------------------------------------------------------------------------------------------------- */

enum phase { IDLE, SETTING_UP, READY, LOOPING, ENDING, GONE };

struct client {
    int fd, step, resends;
    enum phase phase;
    int answers_wanted; /* of this step: a bridged request has two */
    uint32_t console_id, session_id, out_sequence, in_highest;
    uint8_t rq_sequence, tag, console_random[16], random[16], guid[16];
    uint8_t packet[MAX_PACKET];
    int packet_length;
    struct mac integrity;
    AES_KEY encrypt, decrypt;
    uint8_t sik[32];
    double sent_at, began_at;
};

static struct client *clients;
static struct mac password_mac;
static int epoll, measuring, stopping, logging_in, ready;
static long done, resent, stray, wrong, next_to_set_up;
static char first_wrong[200];
static float *latencies;
static long latency_count, latency_room;

static void complain(struct client *c, const char *what) {
    wrong++;
    if (!first_wrong[0])
        snprintf(first_wrong, sizeof first_wrong, "client %ld, phase %d, step %d: %s", (long)(c - clients), c->phase,
                 c->step, what);
}

static void put32(uint8_t *at, uint32_t value) { memcpy(at, &value, 4); }
static uint32_t get32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

static uint8_t checksum(const uint8_t *data, int length) {
    uint8_t sum = 0;
    while (length--) sum += *data++;
    return -sum;
}

static int message(uint8_t *out, uint8_t to, uint8_t netfn, uint8_t sequence, uint8_t command, const uint8_t *data,
                   int length) {
    uint8_t head[] = {to, netfn << 2, checksum((uint8_t[]){to, netfn << 2}, 2), 0x81, sequence << 2, command};
    memcpy(out, head, 6);
    memcpy(out + 6, data, length);
    out[6 + length] = checksum(out + 3, 3 + length);
    return 7 + length;
}

static void transmit(struct client *c) {
    c->sent_at = now();
    if (send(c->fd, c->packet, c->packet_length, 0) < 0 && errno != EAGAIN && errno != ECONNREFUSED)
        die("send: %s", strerror(errno));
}

static void send_sessionless(struct client *c, uint8_t type, const uint8_t *payload, int length) {
    static const uint8_t head[] = {6, 0, 255, 7, 6};
    memcpy(c->packet, head, 5);
    c->packet[5] = type;
    memset(c->packet + 6, 0, 8);
    c->packet[14] = length;
    c->packet[15] = 0;
    memcpy(c->packet + 16, payload, length);
    c->packet_length = 16 + length;
    transmit(c);
}

static void send_in_session(struct client *c, const uint8_t *payload, int length) {
    uint8_t *p = c->packet, plain[256], iv[16];
    static const uint8_t head[] = {6, 0, 255, 7, 6, 0xc0};
    memcpy(p, head, 6);
    put32(p + 6, c->session_id);
    put32(p + 10, ++c->out_sequence);
    int pad = ~length & 15;
    memcpy(plain, payload, length);
    for (int i = 0; i < pad; i++) plain[length + i] = i + 1;
    plain[length + pad] = pad;
    int encrypted = length + pad + 1;
    p[14] = 16 + encrypted;
    p[15] = 0;
    random_octets(iv, 16);
    memcpy(p + 16, iv, 16);
    AES_cbc_encrypt(plain, p + 32, encrypted, &c->encrypt, iv, AES_ENCRYPT);
    uint8_t *end = p + 32 + encrypted;
    memcpy(end, "\xff\xff\x02\x07", 4);
    end += 4;
    uint8_t digest[32];
    mac_of(&c->integrity, p + 4, end - p - 4, digest);
    memcpy(end, digest, check_length());
    c->packet_length = end + check_length() - p;
    transmit(c);
}

static const struct step *current(struct client *c) {
    if (c->phase == SETTING_UP) return &setup[c->step];
    return c->phase == LOOPING ? &loop[c->step] : &teardown[c->step];
}

static const uint8_t *place(struct client *c, const struct step *s, uint8_t *channel) {
    static const uint8_t gateway = 0x20;
    if (!s->bridged || !options.targets) return &gateway;
    int target = (c - clients) % options.targets;
    *channel = options.channel[target];
    return &options.address[target];
}

static int role_and_name(uint8_t *out) {
    int length = strlen(options.user);
    out[0] = 0x14; /* administrator, look up by name only */
    out[1] = length;
    memcpy(out + 2, options.user, length);
    return 2 + length;
}

static struct sockaddr_in server_address;

static void open_socket(struct client *c) {
    static uint32_t source;
    if (!source) source = 0x7f010000 + ((uint32_t)getpid() % 250 << 16);
    c->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (options.spread) { /* another loopback address each time: pyghmi never forgets an address and port */
        struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(++source)};
        if (bind(c->fd, (struct sockaddr *)&own, sizeof own)) die("bind: %s", strerror(errno));
    }
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&server_address, sizeof server_address))
        die("socket: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = c - clients};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
}

static void begin_session(struct client *c) {
    c->session_id = c->out_sequence = c->in_highest = 0;
    c->console_id += options.clients; /* a new one for each session, so that late answers are not taken for new */
    random_octets(c->console_random, 16);
}

static void send_step(struct client *c, int again) {
    const struct step *s = current(c);
    uint8_t p[128], inner[64], channel = 0;
    if (!again) {
        c->resends = 0;
        if (c->phase == LOOPING && !c->step && s->kind != COMMAND) { /* a new client each time, as a process has */
            close(c->fd);
            open_socket(c);
        }
    }
    c->answers_wanted = 1;
    switch (s->kind) {
    case CAPABILITIES: {
        c->rq_sequence = (c->rq_sequence + 1) & 63;
        static const uint8_t head[] = {6, 0, 255, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0};
        memcpy(c->packet, head, 13);
        c->packet[13] = message(c->packet + 14, 0x20, 6, c->rq_sequence, 0x38, (uint8_t[]){0x8e, 4}, 2);
        c->packet_length = 14 + c->packet[13];
        transmit(c);
        return;
    }
    case OPEN: {
        static const uint8_t blocks[] = {0, 0, 0, 8, 1, 0, 0, 0, 1, 0, 0, 8, 1, 0, 0, 0, 2, 0, 0, 8, 1, 0, 0, 0};
        if (!again) begin_session(c);
        memset(p, 0, 8);
        p[0] = ++c->tag;
        put32(p + 4, c->console_id);
        memcpy(p + 8, blocks, 24);
        if (sha256()) p[12] = 3, p[20] = 4;
        send_sessionless(c, 0x10, p, 32);
        return;
    }
    case RAKP1: {
        memset(p, 0, 4);
        p[0] = ++c->tag;
        put32(p + 4, c->session_id);
        memcpy(p + 8, c->console_random, 16);
        p[24] = 0x14;
        p[25] = p[26] = 0;
        p[27] = strlen(options.user);
        memcpy(p + 28, options.user, p[27]);
        send_sessionless(c, 0x12, p, 28 + p[27]);
        return;
    }
    case RAKP3: {
        memset(p, 0, 4);
        p[0] = ++c->tag;
        put32(p + 4, c->session_id);
        uint8_t signed_part[64];
        memcpy(signed_part, c->random, 16);
        put32(signed_part + 16, c->console_id);
        int length = 20 + role_and_name(signed_part + 20);
        mac_of(&password_mac, signed_part, length, p + 8);
        send_sessionless(c, 0x14, p, 8 + digest_length());
        return;
    }
    case CLOSE: {
        if (!again) c->rq_sequence = (c->rq_sequence + 1) & 63;
        uint8_t id[4];
        put32(id, c->session_id);
        send_in_session(c, p, message(p, 0x20, 6, c->rq_sequence, 0x3c, id, 4));
        return;
    }
    case COMMAND: {
        if (!again) c->rq_sequence = (c->rq_sequence + 1) & 63;
        const uint8_t *address = place(c, s, &channel);
        if (*address == 0x20) {
            send_in_session(c, p, message(p, 0x20, s->netfn, c->rq_sequence, s->command, s->data, s->length));
            return;
        }
        inner[0] = 0x40 | channel;
        int length = 1 + message(inner + 1, *address, s->netfn, c->rq_sequence, s->command, s->data, s->length);
        c->answers_wanted = 2;
        send_in_session(c, p, message(p, 0x20, 6, c->rq_sequence, 0x34, inner, length));
    }
    }
}

static void note_latency(double seconds) {
    if (latency_count == latency_room) {
        latency_room = latency_room ? latency_room * 2 : 1 << 16;
        latencies = realloc(latencies, latency_room * sizeof *latencies);
        if (!latencies) die("out of memory");
    }
    latencies[latency_count++] = seconds;
}

static void set_up_next(void) {
    if (next_to_set_up == options.clients) return;
    struct client *c = &clients[next_to_set_up++];
    logging_in++;
    c->phase = SETTING_UP;
    c->step = 0;
    send_step(c, 0);
}

static void advance(struct client *c) {
    c->step++;
    if (c->phase == SETTING_UP) {
        if (c->step < setup_steps) {
            send_step(c, 0);
            return;
        }
        c->phase = READY;
        ready++;
        logging_in--;
        set_up_next();
        return;
    }
    if (c->phase == ENDING) {
        if (c->step < teardown_steps) send_step(c, 0);
        else c->phase = GONE;
        return;
    }
    if (c->step == loop_steps) {
        if (measuring) {
            done++;
            note_latency(now() - c->began_at);
        }
        if (stopping || options.burst > 0) { /* a burst's next round begins when all are back */
            c->phase = READY;
            return;
        }
        c->step = 0;
        c->began_at = now();
    }
    send_step(c, 0);
}

/* --- answers --------------------------------------------------------------------------------------------------- */

static int check_message(struct client *c, const uint8_t *m, int length, uint8_t from, uint8_t netfn, uint8_t command,
                         const struct step *s) {
    if (length < 8) return complain(c, "short message"), 0;
    if (checksum(m, 3) || checksum(m + 3, length - 3)) return complain(c, "checksum"), 0;
    if (m[0] != 0x81 || m[1] != (netfn | 1) << 2 || m[3] != from) return complain(c, "addresses or NetFn"), 0;
    if (m[4] != c->rq_sequence << 2 || m[5] != command) return -1; /* an answer to something earlier */
    if (m[6] && !s->any_code) {
        char text[60];
        snprintf(text, sizeof text, "completion code %02xh to %02xh/%02xh", m[6], netfn, command);
        return complain(c, text), 0;
    }
    if (s->tells_power && command == s->command && netfn == s->netfn) {
        if (length < 8 + 3) return complain(c, "status is too short"), 0;
        if (options.power >= 0 && (m[7] & 1) != options.power) return complain(c, "power state"), 0;
    }
    return 1;
}

static void in_session(struct client *c, uint8_t *p, int length) {
    const struct step *s = current(c);
    uint8_t digest[32], plain[256], iv[16];
    int check_at = length - check_length(), encrypted = (p[14] | p[15] << 8) - 16;
    if ((s->kind != COMMAND && s->kind != CLOSE) || !c->session_id) {
        stray++;
        return;
    }
    if (p[5] != 0xc0 || encrypted < 16 || encrypted % 16 || encrypted > 240 || 32 + encrypted + 4 != check_at)
        return complain(c, "form of the packet");
    mac_of(&c->integrity, p + 4, check_at - 4, digest);
    if (memcmp(digest, p + check_at, check_length())) return complain(c, "integrity check");
    if (memcmp(p + 32 + encrypted, "\xff\xff\x02\x07", 4)) return complain(c, "integrity pad");
    uint32_t sequence = get32(p + 10);
    if (sequence <= c->in_highest) return complain(c, "session sequence number");
    c->in_highest = sequence;
    memcpy(iv, p + 16, 16);
    AES_cbc_encrypt(p + 32, plain, encrypted, &c->decrypt, iv, AES_DECRYPT);
    int pad = plain[encrypted - 1];
    if (pad > 15) return complain(c, "pad length");
    for (int i = 0; i < pad; i++)
        if (plain[encrypted - 1 - pad + i] != i + 1) return complain(c, "pad");
    int message_length = encrypted - 1 - pad;
    uint8_t channel = 0, address = *place(c, s, &channel);
    int right;
    if (s->kind == COMMAND && address != 0x20 && c->resends && message_length > 3 &&
        plain[3] != (c->answers_wanted == 2 ? 0x20 : address)) { /* one of the two that came before we asked again */
        stray++;
        return;
    }
    if (s->kind == CLOSE) right = check_message(c, plain, message_length, 0x20, 6, 0x3c, s);
    else if (c->answers_wanted == 2) right = check_message(c, plain, message_length, 0x20, 6, 0x34, s);
    else right = check_message(c, plain, message_length, address, s->netfn, s->command, s);
    if (right < 0) stray++;
    else if (right && !--c->answers_wanted) advance(c);
}

static void start_keys(struct client *c) {
    uint8_t text[80], key[32], constant[20];
    memcpy(text, c->console_random, 16);
    memcpy(text + 16, c->random, 16);
    int length = 32 + role_and_name(text + 32);
    mac_of(&password_mac, text, length, c->sik);
    struct mac sik;
    mac_key(&sik, c->sik, digest_length());
    memset(constant, 1, 20);
    mac_of(&sik, constant, 20, key);
    mac_key(&c->integrity, key, digest_length());
    memset(constant, 2, 20);
    mac_of(&sik, constant, 20, key);
    AES_set_encrypt_key(key, 128, &c->encrypt);
    AES_set_decrypt_key(key, 128, &c->decrypt);
}

static void handshake(struct client *c, uint8_t type, uint8_t *p, int length) {
    const struct step *s = current(c);
    uint8_t digest[32], text[128];
    if (type != (uint8_t[]){[OPEN] = 0x11, [RAKP1] = 0x13, [RAKP3] = 0x15}[s->kind] || p[0] != c->tag) {
        stray++;
        return;
    }
    if (p[1]) {
        char note[40];
        snprintf(note, sizeof note, "status %02xh in payload %02xh", p[1], type);
        return complain(c, note);
    }
    if (s->kind == OPEN) {
        if (length != 36) return complain(c, "open session response");
        c->session_id = get32(p + 8);
    } else if (s->kind == RAKP1) {
        if (length != 40 + digest_length()) return complain(c, "RAKP 2");
        memcpy(c->random, p + 8, 16);
        memcpy(c->guid, p + 24, 16);
        put32(text, c->console_id);
        put32(text + 4, c->session_id);
        memcpy(text + 8, c->console_random, 16);
        memcpy(text + 24, c->random, 16);
        memcpy(text + 40, c->guid, 16);
        mac_of(&password_mac, text, 56 + role_and_name(text + 56), digest);
        if (memcmp(digest, p + 40, digest_length())) return complain(c, "key exchange code of RAKP 2");
    } else {
        start_keys(c);
        struct mac sik;
        mac_key(&sik, c->sik, digest_length());
        memcpy(text, c->console_random, 16);
        put32(text + 16, c->session_id);
        memcpy(text + 20, c->guid, 16);
        mac_of(&sik, text, 36, digest);
        if (length != 8 + check_length() || memcmp(digest, p + 8, check_length())) return complain(c, "RAKP 4");
    }
    advance(c);
}

/* By the console session id, which every packet but one names. Several clients may share a socket. */
static struct client *client_of(int socket_index, uint32_t console_id) {
    struct client *c = &clients[console_id % options.clients];
    return c->console_id == console_id && c->fd == clients[socket_index].fd ? c : NULL;
}

static void receive(int socket_index, uint8_t *p, int length) {
    if (length < 16 || p[0] != 6 || p[3] != 7) {
        stray++;
        return;
    }
    if (p[4] == 0) { /* IPMI 1.5 form: capabilities; only with a socket for each client */
        struct client *c = &clients[socket_index];
        const struct step *s = current(c);
        if (s->kind != CAPABILITIES || get32(p + 9)) {
            stray++;
            return;
        }
        int right = check_message(c, p + 14, length - 14, 0x20, 6, 0x38, s);
        if (right < 0) stray++;
        else if (right) advance(c);
        return;
    }
    uint32_t session = get32(p + 6);
    struct client *c = client_of(socket_index, session ? session : length >= 24 ? get32(p + 20) : 0);
    if (!c || c->phase == GONE || c->phase == IDLE || c->phase == READY) {
        stray++;
        return;
    }
    if (session) in_session(c, p, length);
    else if (16 + (p[14] | p[15] << 8) != length) complain(c, "payload length");
    else handshake(c, p[5], p + 16, length - 16);
}

static void serve(int wait_ms) {
    struct epoll_event events[256];
    uint8_t packet[MAX_PACKET];
    int count = epoll_wait(epoll, events, 256, wait_ms);
    for (int i = 0; i < count; i++)
        for (int round = 0; round < 64; round++) {
            int index = events[i].data.u32;
            ssize_t length = recv(clients[index].fd, packet, sizeof packet, 0);
            if (length < 0) break;
            receive(index, packet, length);
        }
    static double looked_at;
    double t = now();
    if (t - looked_at < 0.2) return;
    looked_at = t;
    for (struct client *c = clients; c < clients + options.clients; c++) {
        if (c->phase == IDLE || c->phase == READY || c->phase == GONE || t - c->sent_at < RESEND_AFTER) continue;
        if (c->resends++ == MAX_RESENDS)
            die("client %ld: no answer in phase %d, step %d; first fault: %s", (long)(c - clients), c->phase, c->step,
                first_wrong[0] ? first_wrong : "none");
        resent++;
        send_step(c, 1);
    }
}

/* --- the run --------------------------------------------------------------------------------------------------- */

static void add(struct step *steps, int *count, const struct step *more, int number) {
    memcpy(steps + *count, more, number * sizeof *more);
    *count += number;
}

static void choose_test(void) {
    const char *test = options.test;
    struct step status = !strcmp(test, "device-id") ? DEVICE_ID : STATUS;
    if (!strcmp(test, "status") || !strcmp(test, "device-id")) {
        add(setup, &setup_steps, LOGIN, 3);
        add(loop, &loop_steps, &status, 1);
        add(teardown, &teardown_steps, &LOGOUT, 1);
    } else if (!strcmp(test, "power")) {
        add(setup, &setup_steps, LOGIN, 3);
        add(setup, &setup_steps, &SET_PRIVILEGE, 1);
        add(loop, &loop_steps, &POWER, 1);
        add(teardown, &teardown_steps, &LOGOUT, 1);
    } else if (!strcmp(test, "login")) {
        add(loop, &loop_steps, LOGIN, 3);
        add(loop, &loop_steps, &LOGOUT, 1);
        options.sockets = options.clients;
    } else if (!strcmp(test, "mixed")) {
        struct step capabilities = {.kind = CAPABILITIES};
        add(loop, &loop_steps, &capabilities, 1);
        add(loop, &loop_steps, LOGIN, 3);
        add(loop, &loop_steps, &SET_PRIVILEGE, 1);
        add(loop, &loop_steps, PROBES, 4);
        add(loop, &loop_steps, &STATUS, 1);
        add(loop, &loop_steps, &LOGOUT, 1);
        options.sockets = options.clients;
    } else die("no such test: %s", test);
}

static void open_sockets(void) {
    struct rlimit files = {options.clients + 64, options.clients + 64};
    struct rlimit had;
    getrlimit(RLIMIT_NOFILE, &had);
    if (had.rlim_cur < files.rlim_cur) {
        files.rlim_max = had.rlim_max > files.rlim_cur ? had.rlim_max : files.rlim_cur;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    server_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(options.port)};
    if (!inet_pton(AF_INET, options.host, &server_address.sin_addr)) die("--host takes an IPv4 address");
    epoll = epoll_create1(0);
    if (options.sockets > options.clients) options.sockets = options.clients;
    for (int i = 0; i < options.clients; i++) {
        struct client *c = &clients[i];
        c->console_id = options.clients * 16 + i;
        if (i < options.sockets) open_socket(c);
        else c->fd = clients[i % options.sockets].fd;
    }
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile(double q) { return latency_count ? 1e3 * latencies[(long)(q * (latency_count - 1))] : 0; }

static long in_phase(enum phase phase) {
    long count = 0;
    for (int i = 0; i < options.clients; i++) count += clients[i].phase == phase;
    return count;
}

static void set_up(void) {
    if (!setup_steps) {
        for (int i = 0; i < options.clients; i++) clients[i].phase = READY;
        return;
    }
    for (int i = 0; i < options.at_once; i++) set_up_next();
    while (ready < options.clients && !wrong) serve(50);
    if (wrong) die("%s", first_wrong);
}

static void tear_down(void) {
    if (!teardown_steps) return;
    for (int start = 0; start < options.clients; start += options.at_once) {
        int end = start + options.at_once < options.clients ? start + options.at_once : options.clients;
        for (int i = start; i < end; i++) {
            clients[i].phase = ENDING;
            clients[i].step = 0;
            send_step(&clients[i], 0);
        }
        while (in_phase(GONE) < end && !wrong) serve(50);
    }
}

static void parse_bridge(char *text) {
    for (char *word = strtok(text, ","); word; word = strtok(NULL, ",")) {
        if (options.targets == MAX_TARGETS) die("too many targets");
        char *colon = strchr(word, ':');
        if (!colon) die("--bridge takes CHANNEL:ADDRESS,...");
        options.channel[options.targets] = atoi(word);
        options.address[options.targets++] = atoi(colon + 1);
    }
}

static void parse(int argc, char **argv) {
    static const struct option names[] = {
        {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"test", 1, 0, 't'}, {"suite", 1, 0, 'C'}, {"clients", 1, 0, 'c'},
        {"seconds", 1, 0, 's'}, {"count", 1, 0, 'n'}, {"user", 1, 0, 'U'}, {"password", 1, 0, 'P'},
        {"bridge", 1, 0, 'b'}, {"pid", 1, 0, 'i'}, {"hold", 0, 0, 'H'}, {"sockets", 1, 0, 'k'}, {"power", 1, 0, 'w'},
        {"at-once", 1, 0, 'a'}, {"burst", 1, 0, 'B'}, {"warmup", 1, 0, 'u'}, {"spread", 0, 0, 'S'}, {0, 0, 0, 0}};
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) switch (option) {
        case 'h': options.host = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 't': options.test = optarg; break;
        case 'C': options.suite = atoi(optarg); break;
        case 'c': options.clients = atoi(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'n': options.count = atol(optarg); break;
        case 'U': options.user = optarg; break;
        case 'P': options.password = optarg; break;
        case 'b': parse_bridge(optarg); break;
        case 'H': options.hold = 1; break;
        case 'S': options.spread = 1; break;
        case 'k': options.sockets = atoi(optarg); break;
        case 'w': options.power = atoi(optarg); break;
        case 'a': options.at_once = atoi(optarg); break;
        case 'B': options.burst = atof(optarg); break;
        case 'u': options.warmup = atof(optarg); break;
        case 'i':
            if (options.pids == MAX_PIDS || clock_getcpuclockid(atoi(optarg), &options.clocks[options.pids++]))
                die("no process %s", optarg);
            break;
        default: exit(2);
        }
    if (options.suite != 3 && options.suite != 17) die("--suite 3 or 17");
    if (strlen(options.password) > 20 || strlen(options.user) > 16) die("user or password too long");
}

static double round_began;

static void start_all(void) {
    round_began = now();
    for (int i = 0; i < options.clients; i++) {
        clients[i].phase = LOOPING;
        clients[i].step = 0;
        clients[i].began_at = now();
        send_step(&clients[i], 0);
        if (i % 100 == 99) serve(0); /* thousands at one moment would not fit into the server's socket */
    }
}

static void serve_rounds(void) {
    serve(options.burst > 0 ? 2 : 50);
    if (options.burst > 0 && now() > round_began + options.burst && in_phase(READY) == options.clients) start_all();
}

int main(int argc, char **argv) {
    parse(argc, argv);
    choose_test();
    clients = calloc(options.clients, sizeof *clients);
    if (!clients) die("out of memory");
    uint8_t key[20] = {0};
    memcpy(key, options.password, strlen(options.password));
    mac_key(&password_mac, key, 20);
    open_sockets();
    double started = now(), set_up_cpu = server_cpu();
    set_up();
    double set_up_seconds = now() - started;
    set_up_cpu = server_cpu() - set_up_cpu;
    if (options.hold) { /* all sessions are open: say so, and go on when a line comes */
        char line[16];
        printf("{\"ready\": %d}\n", ready);
        fflush(stdout);
        if (!fgets(line, sizeof line, stdin)) die("standard input is closed");
    }
    start_all();
    double warm = now() + options.warmup;
    while (now() < warm && !wrong) serve_rounds();
    measuring = 1;
    double start = now(), own = cpu_of(CLOCK_PROCESS_CPUTIME_ID), server = server_cpu();
    while (!wrong && (options.count ? done < options.count : now() < start + options.seconds)) serve_rounds();
    server = server_cpu() - server;
    own = cpu_of(CLOCK_PROCESS_CPUTIME_ID) - own;
    double elapsed = now() - start;
    measuring = 0;
    stopping = 1;
    while (in_phase(LOOPING) && !wrong) serve(50);
    if (!wrong) tear_down();
    qsort(latencies, latency_count, sizeof *latencies, by_value);
    printf("{\"test\": \"%s\", \"suite\": %d, \"bridged\": %s, \"clients\": %d, \"operations\": %ld, \"seconds\": %.3f, "
           "\"per_second\": %.0f, \"server_us\": %.2f, \"server_busy\": %.3f, \"load_us\": %.2f, \"load_busy\": %.3f, "
           "\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f, \"resent\": %ld, \"stray\": %ld, \"wrong\": %ld, "
           "\"first_wrong\": \"%s\", \"set_up_seconds\": %.3f, \"set_up_us\": %.2f}\n",
           options.test, options.suite, options.targets ? "true" : "false", options.clients, done, elapsed,
           done / elapsed, done ? server / done * 1e6 : 0, server / elapsed, done ? own / done * 1e6 : 0,
           own / elapsed, quantile(0.5), quantile(0.99), quantile(1), resent, stray, wrong, first_wrong,
           set_up_seconds, set_up_cpu / options.clients * 1e6);
    return wrong ? 1 : 0;
}
