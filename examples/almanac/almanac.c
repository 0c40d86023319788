/* Print the saying with the number given, from the file that $ALMANAC names. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *path = getenv("ALMANAC");
    long wanted = argc > 1 ? strtol(argv[1], NULL, 10) : 1;
    char line[256];
    FILE *file = path ? fopen(path, "r") : NULL;

    if (file == NULL) {
        perror(path ? path : "ALMANAC");
        return 1;
    }
    while (wanted > 0 && fgets(line, sizeof line, file) != NULL)
        wanted--;
    fclose(file);
    if (wanted > 0) {
        fprintf(stderr, "there is no such saying\n");
        return 2;
    }
    printf("user %d: %s", (int)getuid(), line);
    return 0;
}
