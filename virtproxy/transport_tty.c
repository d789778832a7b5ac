/*
 * transport_tty.c - isaserial-open and pty-open: a tty as the channel
 *
 * A tty that is not raw edits, echoes and swallows bytes, and anybody may make
 * it so again: the settings are looked at every second.  A hang-up (getty's
 * vhangup) makes the descriptor useless for ever; the endpoint then opens it
 * anew.
 *
 * Little is left in the kernel's transmit buffer, so that an urgent frame does
 * not wait behind a file: poll says writable below 256 queued bytes, and one
 * write adds at most TTY_WRITE_MAX.
 *
 * Closing must not wait for output that nobody takes: closing_wait is set to
 * "none" and the output flushed first.
 *
 * pty-open is the host's end of QEMU's -chardev pty.  No exclusive mode there:
 * the flag would outlive this process as long as QEMU holds the other end.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/serial.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/seal.h"
#include "common/sock.h"
#include "common/str.h"

#define TTY_WRITE_MAX 1024
#define TTY_QUEUE_MAX 256    /* n_tty's own mark for "writable" */
#define RX_TRIGGER "14"	     /* of the 16-byte FIFO: 10 times the throughput of 1 */
#define CLOSING_WAIT_NONE 65535

static void set_raw(struct termios *tio)
{
	cfmakeraw(tio);
	tio->c_iflag &= ~(tcflag_t)(IXON | IXOFF | IXANY | INPCK | IGNBRK | BRKINT |
				    PARMRK);
	tio->c_cflag &= ~(tcflag_t)(HUPCL | CRTSCTS | CSTOPB | PARENB | CSIZE);
	tio->c_cflag |= CLOCAL | CREAD | CS8;
	tio->c_cc[VMIN] = 1;
	tio->c_cc[VTIME] = 0;
	cfsetispeed(tio, B115200);
	cfsetospeed(tio, B115200);
}

static bool same_settings(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag &&
	       a->c_lflag == b->c_lflag &&
	       (a->c_cflag & ~(tcflag_t)CBAUD) == (b->c_cflag & ~(tcflag_t)CBAUD) &&
	       cfgetospeed(a) == cfgetospeed(b);
}

/* Makes the tty raw if it is not: 1 when something had to be changed. */
static int make_raw(int fd)
{
	struct termios now, want;

	if (tcgetattr(fd, &now) < 0)
		return -errno;
	want = now;
	set_raw(&want);
	if (same_settings(&now, &want))
		return 0;
	return tcsetattr(fd, TCSANOW, &want) < 0 ? -errno : 1;
}

/* The last part of the device's path: "ttyS1". */
static const char *tty_name(const struct vp_transport *t)
{
	const char *slash = strrchr(t->spec->addr, '/');

	return slash ? slash + 1 : t->spec->addr;
}

static bool is_console(const char *name)
{
	CLEANUP_FCLOSE FILE *f = fopen("/proc/consoles", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, " \t\n")] = 0;
		if (strcmp(line, name) == 0)
			return true;
	}
	return false;
}

static void set_closing_wait(int fd)
{
	struct serial_struct ss;

	if (ioctl(fd, TIOCGSERIAL, &ss) < 0 || ss.closing_wait == CLOSING_WAIT_NONE)
		return;
	ss.closing_wait = CLOSING_WAIT_NONE;
	ioctl(fd, TIOCSSERIAL, &ss); /* close() flushes first in any case */
}

/* Returns what the level is then; 0 = not known. */
static unsigned set_rx_trigger(const char *name)
{
	CLEANUP_CLOSE int fd = -1;
	char path[128], level[16] = "";

	snprintf(path, sizeof(path), "/sys/class/tty/%.60s/rx_trig_bytes", name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (write(fd, RX_TRIGGER, sizeof(RX_TRIGGER) - 1) < 0)
		log_debug("%s: %s", path, strerror(errno));
	/* A UART that has no such level takes the next lower one. */
	if (pread(fd, level, sizeof(level) - 1, 0) < 0)
		return 0;
	return (unsigned)strtoul(level, NULL, 10);
}

/* R35: "bo:N" of the port's line in /proc/tty/driver/serial, 0 when there is
 * none (root only). */
static uint64_t read_overruns(const char *name)
{
	CLEANUP_FCLOSE FILE *f = NULL;
	char line[256], head[16];
	const char *at;

	if (!str_starts(name, "ttyS"))
		return 0;
	f = fopen("/proc/tty/driver/serial", "re");
	snprintf(head, sizeof(head), "%.8s:", name + 4);
	while (f && fgets(line, sizeof(line), f))
		if (str_starts(line, head)) {
			at = strstr(line, " bo:");
			return at ? strtoull(at + 4, NULL, 10) : 0;
		}
	return 0;
}

static int tty_open_raw(struct vp_transport *t, bool exclusive)
{
	CLEANUP_CLOSE int fd = open(seal_path(t->spec->addr),
				    O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	if (!isatty(fd))
		return -ENOTTY;
	if (exclusive && ioctl(fd, TIOCEXCL) < 0)
		return -errno;
	r = make_raw(fd);
	if (r < 0)
		return r;
	t->fd = take_fd(fd);
	return 0;
}

static int isa_open(struct vp_transport *t)
{
	const char *name = tty_name(t);
	int r = tty_open_raw(t, true);

	if (r < 0)
		return r;
	set_closing_wait(t->fd);
	tcflush(t->fd, TCIOFLUSH);
	t->trigger = set_rx_trigger(name);
	t->overruns = read_overruns(name);
	if (is_console(name) && !t->complained) {
		log_warning("%s: %s is a console of the kernel: its messages fall "
			    "into the channel; take console=%s off the kernel's "
			    "command line", t->label, t->spec->addr, name);
		t->complained = true;
	}
	return 0;
}

static int pty_open(struct vp_transport *t)
{
	return tty_open_raw(t, false);
}

static ssize_t tty_read(struct vp_transport *t, void *buf, size_t n)
{
	ssize_t r;

	do
		r = read(t->fd, buf, n);
	while (r < 0 && errno == EINTR);
	if (r == 0) /* hung up */
		return -EIO;
	return r < 0 ? -errno : r;
}

static ssize_t tty_write(struct vp_transport *t, const struct iovec *iov, size_t n)
{
	ssize_t r;

	if (fd_unsent(t->fd) >= TTY_QUEUE_MAX)
		return -EAGAIN;
	r = vp_transport_write_flat(t, iov, n);
	return r == 0 || r == -ENOMEM ? -ENOBUFS : r;
}

static void check_raw(struct vp_transport *t)
{
	static struct log_limit limit = LOG_LIMIT_INIT;

	if (make_raw(t->fd) > 0)
		log_ratelimited(&limit, LOG_LVL_WARNING,
				"%s: somebody changed the settings of %s (a getty?); "
				"made raw again", t->label, t->spec->addr);
}

static void isa_check(struct vp_transport *t)
{
	check_raw(t);
	t->overruns = read_overruns(tty_name(t));
}

static void tty_close(struct vp_transport *t)
{
	if (t->fd >= 0)
		tcflush(t->fd, TCOFLUSH);
	vp_transport_close(t);
}

const struct vp_transport_ops vp_transport_isaserial = {
	.kind = VP_CHANNEL_SERIAL,
	.write_max = TTY_WRITE_MAX,
	.open = isa_open,
	.read = tty_read,
	.write = tty_write,
	.check = isa_check,
	.close = tty_close,
};

const struct vp_transport_ops vp_transport_pty = {
	.kind = VP_CHANNEL_SERIAL,
	.write_max = TTY_WRITE_MAX,
	.open = pty_open,
	.read = tty_read,
	.write = tty_write,
	.check = check_raw,
	.close = tty_close,
};
