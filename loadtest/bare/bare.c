// The least that a server can do: what is POSTed goes to every reader by one write(2), as an SSE block. It keeps nothing, filters
// nothing and drops whoever is slow. It shows what the kernel alone takes for a delivery on this machine, to be measured by
// the same clients as everything else:
//
//	cc -O2 -o bare bare.c && ./bare 9000
//	loadtest sse --url http://127.0.0.1:9000/sub --publish-url http://127.0.0.1:9000/pub
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 20000, ROOM = 64 << 10, ENDS = 64 };

// A connection that has not sent its whole request yet has a buffer for it.
struct conn {
	char *in;
	size_t len;
	int at; // its place among the readers; -1: none
};

static struct conn conns[MOST];
static int readers[MOST], count;
static int epoll;

static void fail(const char *what) {
	perror(what);
	exit(1);
}

static void hang_up(int fd) {
	struct conn *c = &conns[fd];
	if (c->at >= 0) {
		int last = readers[--count];
		readers[c->at] = last;
		conns[last].at = c->at;
		c->at = -1;
	}
	free(c->in);
	c->in = NULL;
	close(fd);
}

static void publish(const char *body, size_t len) {
	static char block[ROOM + 16];
	memcpy(block, "data: ", 6);
	memcpy(block + 6, body, len);
	memcpy(block + 6 + len, "\n\n", 2);
	ssize_t n = len + 8;
	for (int i = count; i-- > 0;) { // from the end: who hangs up is replaced by the last
		int fd = readers[i];
		if (write(fd, block, n) != n) hang_up(fd);
	}
}

// request takes what has come of a request, and returns how much of it was one; 0: not whole yet, -1: hang up.
static ssize_t request(int fd, struct conn *c) {
	char *end = memmem(c->in, c->len, "\r\n\r\n", 4);
	if (!end) return c->len < ROOM - 1 ? 0 : -1;
	size_t head = end + 4 - c->in;
	if (!strncmp(c->in, "GET ", 4)) {
		static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nid: 0\n\n";
		if (write(fd, answer, sizeof answer - 1) < 0) return -1;
		c->at = count;
		readers[count++] = fd;
		return head;
	}
	c->in[c->len] = 0;
	char *field = strcasestr(c->in, "\r\nContent-Length:");
	size_t body = field && field < end ? strtoul(field + 17, NULL, 10) : 0;
	if (head + body >= ROOM) return -1;
	if (c->len < head + body) return 0;
	static const char done[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	if (write(fd, done, sizeof done - 1) < 0) return -1;
	publish(c->in + head, body);
	return head + body;
}

static void ready(int fd) {
	struct conn *c = &conns[fd];
	if (!c->in && !(c->in = malloc(ROOM))) fail("malloc");
	ssize_t n = read(fd, c->in + c->len, ROOM - 1 - c->len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
	if (n <= 0) {
		hang_up(fd);
		return;
	}
	c->len += n;
	for (ssize_t used; c->len > 0 && (used = request(fd, c)) != 0;) {
		if (used < 0) {
			hang_up(fd);
			return;
		}
		memmove(c->in, c->in + used, c->len -= used);
	}
	if (c->at >= 0) { // a reader says no more
		free(c->in);
		c->in = NULL;
	}
}

int main(int argc, char **argv) {
	if (argc != 2) {
		fprintf(stderr, "usage: bare PORT\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	int one = 1, door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(door, (struct sockaddr *)&at, sizeof at) || listen(door, 16384)) fail("listen");
	epoll = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = door}, got[ENDS];
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, door, &ev)) fail("epoll_ctl");
	for (;;) {
		int n = epoll_wait(epoll, got, ENDS, -1);
		for (int i = 0; i < n; i++) {
			int fd = got[i].data.fd;
			if (fd != door) {
				ready(fd);
				continue;
			}
			while ((fd = accept4(door, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
				if (fd >= MOST) {
					close(fd);
					continue;
				}
				setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
				conns[fd] = (struct conn){.at = -1};
				ev = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
				if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev)) fail("epoll_ctl");
			}
		}
	}
}
