// The floor that stapes is measured against: clone3 with the seven namespaces and a cgroup, an overlay mount, pivot_root,
// exec of a static true, wait. Everything a start cannot do without, and nothing else.
// Use: floor LOWER SCRATCH CGROUP ROUNDS; prints one line: the median in microseconds.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) {
	perror(what);
	_exit(1);
}

static void put(const char *path, const char *text) {
	int fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double round_once(const char *lower, const char *scratch, const char *cgroup, int nr) {
	char upper[4096], work[4096], merged[4096], group[4096], options[16384], path[64], map[64];
	snprintf(upper, sizeof upper, "%s/%d/upper", scratch, nr);
	snprintf(work, sizeof work, "%s/%d/work", scratch, nr);
	snprintf(merged, sizeof merged, "%s/%d/merged", scratch, nr);
	snprintf(group, sizeof group, "%s/floor%d", cgroup, nr);
	double start = now();
	char home[4096];
	snprintf(home, sizeof home, "%s/%d", scratch, nr);
	if (mkdir(home, 0755) || mkdir(upper, 0755) || mkdir(work, 0755) || mkdir(merged, 0755) || mkdir(group, 0755))
		die("mkdir");
	int cg = open(group, O_PATH | O_CLOEXEC), sync[2], pidfd = -1;
	if (cg < 0 || pipe2(sync, O_CLOEXEC))
		die("open");
	struct clone_args args = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUSER | CLONE_NEWCGROUP |
		         CLONE_PIDFD | CLONE_INTO_CGROUP,
		.pidfd = (__u64)&pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = cg,
	};
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid < 0)
		die("clone3");
	if (pid == 0) {
		char byte;
		if (read(sync[0], &byte, 1) != 1)
			_exit(1);
		if (setresgid(0, 0, 0) || setresuid(0, 0, 0))
			die("setresuid");
		if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
			die("private");
		snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s,userxattr", lower, upper, work);
		if (mount("overlay", merged, "overlay", 0, options))
			die("overlay");
		if (chdir(merged) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
			die("pivot_root");
		char *argv[] = {"true", NULL};
		execve("/bin/true", argv, argv + 1);
		die("execve");
	}
	snprintf(map, sizeof map, "0 0 65536\n");
	snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
	put(path, map);
	snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
	put(path, map);
	if (write(sync[1], "+", 1) != 1)
		die("write");
	int status;
	if (waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "floor: the child ended with %x\n", status);
		exit(1);
	}
	double end = now();
	close(sync[0]);
	close(sync[1]);
	close(cg);
	close(pidfd);
	rmdir(group);
	return end - start;
}

int main(int argc, char **argv) {
	if (argc != 5)
		return 2;
	int rounds = atoi(argv[4]);
	double *all = calloc(rounds, sizeof *all);
	for (int i = 0; i < rounds; i++)
		all[i] = round_once(argv[1], argv[2], argv[3], i);
	qsort(all, rounds, sizeof *all, compare);
	printf("%.0f\n", all[rounds / 2]);
	return 0;
}
