// Times whole commands, in turn: timer ROUNDS COMMAND… runs each COMMAND once a round and prints its median in microseconds,
// one line a command. In a COMMAND, words are separated by single spaces and {} is the round's number. A command that fails
// ends the run. Output of the commands is thrown away.
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

// The words of a command, with the round's number put in.
static char **words(const char *command, int round) {
	char *text = malloc(strlen(command) * 2 + 64), *out = text;
	for (const char *at = command; *at;) {
		if (at[0] == '{' && at[1] == '}') {
			out += sprintf(out, "%d", round);
			at += 2;
		} else
			*out++ = *at++;
	}
	*out = 0;
	char **list = calloc(strlen(text) + 2, sizeof *list);
	int n = 0;
	for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
		list[n++] = word;
	return list;
}

int main(int argc, char **argv) {
	if (argc < 3)
		return 2;
	int rounds = atoi(argv[1]), commands = argc - 2;
	double *all = calloc((size_t)rounds * commands, sizeof *all);
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	for (int r = 0; r < rounds; r++)
		for (int c = 0; c < commands; c++) {
			char **list = words(argv[2 + c], r);
			pid_t pid;
			int status;
			double start = now();
			if (posix_spawnp(&pid, list[0], &actions, NULL, list, environ) || waitpid(pid, &status, 0) != pid) {
				fprintf(stderr, "timer: cannot run %s\n", list[0]);
				return 1;
			}
			all[c * rounds + r] = now() - start;
			if (status) {
				fprintf(stderr, "timer: status %x of: %s (round %d)\n", status, argv[2 + c], r);
				return 1;
			}
			free(list[0]);
			free(list);
		}
	for (int c = 0; c < commands; c++) {
		qsort(all + c * rounds, rounds, sizeof *all, compare);
		printf("%.0f\n", all[c * rounds + rounds / 2]);
	}
	return 0;
}
