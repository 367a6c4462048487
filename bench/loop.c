/* The machine's limit: copies a file over a TCP connection on loopback, by read and send, recv and write.
   loop SOURCE TARGET */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { IN = 256 << 10, OUT = 512 << 10 };

static int put(int to, const char *data, ssize_t left, int is_socket)
{
    while (left > 0) {
        ssize_t done = is_socket ? send(to, data, left, 0) : write(to, data, left);
        if (done < 0)
            return 1;
        data += done;
        left -= done;
    }
    return 0;
}

int main(int count, char **names)
{
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof place;
    int listener = socket(AF_INET, SOCK_STREAM, 0), sender = socket(AF_INET, SOCK_STREAM, 0);
    char *buffer = aligned_alloc(4096, OUT);
    ssize_t got = 0;
    int status = 1;

    if (count != 3 || bind(listener, (void *)&place, size) || listen(listener, 1) ||
        getsockname(listener, (void *)&place, &size) || connect(sender, (void *)&place, size))
        return 1;
    int receiver = accept(listener, 0, 0);
    pid_t child = fork();
    if (!child) {
        int target = open(names[2], O_WRONLY | O_CREAT, 0644);
        close(sender);
        while ((got = recv(receiver, buffer, OUT, 0)) > 0)
            if (put(target, buffer, got, 0))
                _exit(1);
        _exit(got < 0);
    }
    close(receiver);
    int source = open(names[1], O_RDONLY);
    while ((got = read(source, buffer, IN)) > 0)
        if (put(sender, buffer, got, 1))
            return 1;
    close(sender);
    waitpid(child, &status, 0);
    return got < 0 || status;
}
