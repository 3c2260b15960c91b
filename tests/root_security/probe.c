/* What the security tests run inside an instance: the attacks that a shell cannot make. Built statically by the test.
 *
 *   probe denied              tries the calls that the seccomp policy denies, one `name errno` a line
 *   probe fds                 its open descriptors, one `number target` a line
 *   probe look PID            what it may read of a process, one `name errno` a line
 *   probe hunt SIZE SECONDS   catches /proc/PID/exe of programs of SIZE bytes and writes to them
 *   probe spy MARK NAME SECONDS   looks for MARK and NAME in what /proc tells of every other process
 *   probe swap A B SECONDS    exchanges two names as fast as it can
 *   probe push                tries to type into its terminal (TIOCSTI)
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void result(const char *name, long ret) {
    printf("%s %d\n", name, ret < 0 ? errno : 0);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int denied(void) {
    result("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    result("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, NULL, 0));
    result("init_module", syscall(SYS_init_module, NULL, 0, ""));
    result("finit_module", syscall(SYS_finit_module, -1, "", 0));
    result("delete_module", syscall(SYS_delete_module, "none", 0));
    result("umount2_force", syscall(SYS_umount2, "/no/such", 1));
    result("umount2", syscall(SYS_umount2, "/no/such", 0));
#ifdef __x86_64__
    result("x32_getpid", syscall(0x40000000 | SYS_getpid));
#endif
    return 0;
}

static int fds(void) {
    char path[64], target[4096];
    for (int fd = 0; fd < 1024; fd++) {
        if (fcntl(fd, F_GETFD) < 0) continue;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n < 0 ? 0 : n] = 0;
        printf("%d %s%s\n", fd, target, isatty(fd) ? " tty" : "");
    }
    return 0;
}

static void try_read(int pid, const char *name) {
    char path[64], data[8];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : strcmp(name, "mem") == 0 ? 0 : read(fd, data, sizeof data);
    if (n < 0 && errno == EISDIR) n = 0;
    result(name, n);
    if (fd >= 0) close(fd);
}

static int look(int pid) {
    const char *names[] = {"exe", "environ", "mem", "maps", "root", "cwd", "fd", "fd/0", "auxv", "stack"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) try_read(pid, names[i]);
    result("ptrace", ptrace(PTRACE_ATTACH, pid, NULL, NULL));
    return 0;
}

static int self_pid;

/* The next process of /proc that is not this one; 0 at the end. */
static int next(DIR *proc) {
    for (struct dirent *e; (e = readdir(proc));) {
        int pid = atoi(e->d_name);
        if (isdigit((unsigned char)e->d_name[0]) && pid != self_pid) return pid;
    }
    return 0;
}

/* Tries to write to a caught program until it is no longer running; 1 if that worked. The byte is the one that is there. */
static int write_to(int fd, int *opened) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    double end = now() + 0.2;
    do {
        int to = open(path, O_RDWR | O_CLOEXEC);
        if (to >= 0) {
            int written = pwrite(to, "\x7f", 1, 0) == 1;
            ++*opened;
            close(to);
            return written;
        }
    } while (errno == ETXTBSY && now() < end);
    return 0;
}

static int hunt(long size, double seconds) {
    int seen = 0, opened = 0, written = 0;
    for (double end = now() + seconds; now() < end;) {
        DIR *proc = opendir("/proc");
        for (int pid; (pid = next(proc));) {
            char path[64];
            struct stat st;
            snprintf(path, sizeof path, "/proc/%d/exe", pid);
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            if (fd < 0) continue;
            if (fstat(fd, &st) == 0 && st.st_size == size) {
                seen++;
                written += write_to(fd, &opened);
            }
            close(fd);
        }
        closedir(proc);
    }
    printf("seen %d opened %d written %d\n", seen, opened, written);
    return 0;
}

static const char *marks[2];

static int holds(const char *data, ssize_t n) {
    for (int i = 0; i < 2; i++)
        if (n > 0 && memmem(data, (size_t)n, marks[i], strlen(marks[i]))) return 1;
    return 0;
}

static ssize_t slurp(const char *path, char *data, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    size_t at = 0;
    for (ssize_t n; at < size && (n = read(fd, data + at, size - at)) > 0;) at += (size_t)n;
    close(fd);
    return (ssize_t)at;
}

static void spy_on(int pid, int *leaks) {
    static char data[1 << 18];
    const char *files[] = {"cmdline", "environ", "mounts", "mountinfo", "net/unix", "comm", "status", "maps", "auxv"};
    const char *links[] = {"exe", "cwd", "root"};
    char path[300];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, files[i]);
        if (holds(data, slurp(path, data, sizeof data))) printf("LEAK %s\n", files[i]), ++*leaks;
    }
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, links[i]);
        if (holds(data, readlink(path, data, sizeof data))) printf("LEAK %s\n", links[i]), ++*leaks;
    }
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));) {
        snprintf(path, sizeof path, "/proc/%d/fd/%s", pid, e->d_name);
        ssize_t n = readlink(path, data, sizeof data);
        if (holds(data, n)) printf("LEAK fd %.*s\n", (int)n, data), ++*leaks;
    }
    closedir(dir);
}

static int is_ours(int pid) {
    char path[64], comm[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    return slurp(path, comm, sizeof comm - 1) > 0 && strncmp(comm, "stapes", 6) == 0;
}

/* 1 if a process of ours could be traced. It may have become the instance's own program in between. */
static int trace(int pid) {
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0) return 0;
    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
    waitpid(pid, NULL, __WALL);
    int traced = is_ours(pid);
    ptrace(PTRACE_DETACH, pid, NULL, NULL);
    return traced;
}

static int spy(double seconds) {
    int seen = 0, leaks = 0, traced = 0;
    for (double end = now() + seconds; now() < end;) {
        DIR *proc = opendir("/proc");
        for (int pid; (pid = next(proc));) {
            spy_on(pid, &leaks);
            if (!is_ours(pid)) continue;
            seen++;
            traced += trace(pid);
        }
        closedir(proc);
    }
    printf("seen %d leaks %d traced %d\n", seen, leaks, traced);
    return 0;
}

static int swap(const char *a, const char *b, double seconds) {
    long n = 0;
    for (double end = now() + seconds; now() < end; n++)
        if (syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2) < 0) return perror("renameat2"), 1;
    printf("swapped %ld\n", n);
    return 0;
}

static int push(void) {
    for (int fd = 0; fd < 3; fd++)
        for (const char *c = "echo pushed\n"; *c; c++)
            if (ioctl(fd, TIOCSTI, c) < 0) {
                printf("fd %d errno %d\n", fd, errno);
                break;
            }
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    self_pid = getpid();
    if (!strcmp(what, "denied")) return denied();
    if (!strcmp(what, "fds")) return fds();
    if (!strcmp(what, "push")) return push();
    if (!strcmp(what, "look") && argc == 3) return look(atoi(argv[2]));
    if (!strcmp(what, "hunt") && argc == 4) return hunt(atol(argv[2]), atof(argv[3]));
    if (!strcmp(what, "spy") && argc == 5) return marks[0] = argv[2], marks[1] = argv[3], spy(atof(argv[4]));
    if (!strcmp(what, "swap") && argc == 5) return swap(argv[2], argv[3], atof(argv[4]));
    return 2;
}
