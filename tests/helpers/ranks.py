"""`python -m tests.helpers.ranks COUNT ARGUMENTS`: the command in COUNT ranks, as torchrun starts them, but forked from
one process that has imported everything: seconds less for each run. Exit code: that of the first rank that fails."""

import os
import socket
import sys


def main() -> int:
    import prospect.train.run  # noqa: F401 (imported once for all ranks)
    from prospect.commands.app import app

    count, words = int(sys.argv[1]), sys.argv[2:]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(count)}
    children = []
    for rank in range(count):
        if child := os.fork():
            children.append(child)
            continue
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        sys.argv = ["prospect", *words]
        app(words, prog_name="prospect")
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main())
