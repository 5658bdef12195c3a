"""`python -m tests.helpers.ranks COUNT ARGUMENTS`: the command in COUNT ranks, as torchrun starts them, but forked from
one process that has imported everything: seconds less for each run. Exit code: that of the first rank that fails.

With SHARING_ON_CPUS set, accelerate takes the CPUs for GPUs where it asks whether FSDP is possible: torch's FSDP2 runs
over gloo, and accelerate alone keeps it from CPUs."""

import os
import socket
import sys


def main() -> int:
    import prospect.train.run  # noqa: F401 (imported once for all ranks)
    from prospect.commands.app import app

    if os.environ.get("SHARING_ON_CPUS"):
        let_cpus_share()
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


def let_cpus_share() -> None:
    """Tell accelerate that ranks on CPUs are ranks on GPUs; at each evaluation, how many weights are shared out."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType
    from torch.distributed.tensor import DTensor

    from prospect.train.trainer import ProspectTrainer

    prepared, measured = PartialState.__init__, ProspectTrainer._measured

    def told(self, *args, **kwargs) -> None:
        prepared(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    def watched(self, split):
        weights = list(self.model.parameters())
        shared = sum(isinstance(weight, DTensor) for weight in weights)
        print(f"rank {self.args.process_index}: {shared} of {len(weights)} weights shared out", flush=True)
        return measured(self, split)

    PartialState.__init__, ProspectTrainer._measured = told, watched


if __name__ == "__main__":
    sys.exit(main())
