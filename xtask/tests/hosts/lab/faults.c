/* A disk that fails when it is told to. It is loaded before a program (LD_PRELOAD) and stands
 * between that and the system.
 *
 *   FAULTS_UNDER   the folder whose files it is about
 *   FAULTS_FILE    what goes wrong at present, looked up with each call:
 *                    slow N   a sync takes so many milliseconds longer
 *                    sync     a sync fails, and makes sure of nothing
 *                    write    a write fails, and writes nothing
 *                    short    a write writes half, and says so
 *                    torn     a write writes half, and fails
 *   FAULTS_COUNT   a file that gets a byte for each fault
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static ssize_t plain_write(int fd, const void *bytes, size_t count) {
	return syscall(SYS_write, fd, bytes, count);
}

/* Whether a file is one of those that fail. */
static int is_ours(int fd) {
	const char *under = getenv("FAULTS_UNDER");
	char link[64], path[PATH_MAX];
	if (under == NULL)
		return 0;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, path, sizeof path - 1);
	if (length < 0)
		return 0;
	path[length] = 0;
	size_t prefix = strlen(under);
	return strncmp(path, under, prefix) == 0 && (path[prefix] == '/' || path[prefix] == 0);
}

/* Whether this goes wrong at present; the number behind the word, if there is one. */
static int goes_wrong(int fd, const char *what, long *number) {
	const char *file = getenv("FAULTS_FILE");
	char text[64] = "", word[32] = "";
	int before = errno;
	if (file == NULL || !is_ours(fd))
		return 0;
	int from = syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC, 0);
	if (from >= 0) {
		if (syscall(SYS_read, from, text, sizeof text - 1) < 0)
			text[0] = 0;
		syscall(SYS_close, from);
	}
	errno = before;
	*number = 0;
	if (sscanf(text, "%31s %ld", word, number) < 1 || strcmp(word, what) != 0)
		return 0;
	const char *count = getenv("FAULTS_COUNT");
	int to = count == NULL ? -1 : syscall(SYS_openat, AT_FDCWD, count,
					      O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (to >= 0) {
		if (plain_write(to, ".", 1) < 0)
			abort();
		syscall(SYS_close, to);
	}
	errno = before;
	return 1;
}

static int fails(void) {
	errno = EIO;
	return -1;
}

static int sync_with(int fd, long call) {
	long number;
	if (goes_wrong(fd, "sync", &number))
		return fails();
	if (goes_wrong(fd, "slow", &number)) {
		struct timespec left = { number / 1000, number % 1000 * 1000000 };
		while (nanosleep(&left, &left) != 0 && errno == EINTR)
			;
	}
	return syscall(call, fd);
}

int fsync(int fd) {
	return sync_with(fd, SYS_fsync);
}

int fdatasync(int fd) {
	return sync_with(fd, SYS_fdatasync);
}

/* How much of a write is done, and whether it fails then. */
static size_t share(int fd, size_t count, int *fails_then) {
	long number;
	*fails_then = 0;
	if (goes_wrong(fd, "write", &number)) {
		*fails_then = 1;
		return 0;
	}
	if (count > 1 && goes_wrong(fd, "short", &number))
		return count / 2;
	if (goes_wrong(fd, "torn", &number)) {
		*fails_then = 1;
		return count / 2;
	}
	return count;
}

ssize_t write(int fd, const void *bytes, size_t count) {
	int fails_then;
	size_t part = share(fd, count, &fails_then);
	ssize_t written = part == 0 && fails_then ? 0 : plain_write(fd, bytes, part);
	return fails_then ? fails() : written;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
	int fails_then;
	size_t part = share(fd, count, &fails_then);
	ssize_t written = part == 0 && fails_then ? 0 : syscall(SYS_pwrite64, fd, bytes, part, at);
	return fails_then ? fails() : written;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
	return pwrite64(fd, bytes, count, at);
}
