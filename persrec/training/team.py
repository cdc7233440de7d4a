"""The processes that train one model together, as torchrun starts them; by default there is one."""

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from persrec.backbones.base import Backbone
from persrec.items.base import ReadsBatches, TextEncoder
from persrec.recommender import SequentialRecommender


class Team:
    """One process alone; `SeveralProcesses` has others.

    Attributes:
        rank: of this process, from 0.
        size: processes.
    """

    rank = 0
    size = 1

    def wrapped(self, objective: nn.Module, model: SequentialRecommender) -> nn.Module:  # noqa: ARG002 - several processes ask for it
        """What to call in place of ``objective``, whose parameters are those of ``model``."""
        return objective

    @contextlib.contextmanager
    def syncing(self, objective: nn.Module, *, on: bool) -> Iterator[None]:  # noqa: ARG002 - as above
        """Inside, a backward adds up the gradients of all processes; with ``on`` False it leaves that to a later backward."""
        yield

    @contextlib.contextmanager
    def whole(self, model: nn.Module) -> Iterator[None]:  # noqa: ARG002 - as above
        """Inside, weights are whole in every process, to be read."""
        yield

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over the processes."""
        return values

    def first(self, value: float) -> float:
        """The number that the first process has."""
        return value

    def wait(self) -> None:
        """Returns once every process is here."""


class SeveralProcesses(Team):
    """The processes of a torchrun on one machine: on GPUs by NCCL, elsewhere by gloo.

    Weights of id models are the same in each process, and gradients are averaged (DDP). Those of a model that reads texts are
    sharded, each feed-forward apart and the rest together (FSDP2): it is the item Llama that does not fit.
    """

    def __init__(self, device: torch.device) -> None:
        """Joins the others; the environment is torchrun's."""
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._device = device
        self._readers: list[ReadsBatches] = []

    def leave(self) -> None:
        """Leaves the other processes; a model that was sharded here cannot be trained further."""
        for reader in self._readers:
            reader.most = int
        dist.destroy_process_group()

    def wrapped(self, objective: nn.Module, model: SequentialRecommender) -> nn.Module:
        """As `Team` says."""
        if not isinstance(model.items, TextEncoder):
            return DistributedDataParallel(objective, forward_sync_buffers=False, find_unused_parameters=True)
        mesh = dist.device_mesh.init_device_mesh(self._device.type, (self.size,))
        for decoder in (module for module in model.modules() if isinstance(module, Backbone)):
            for layer in decoder.children():
                for part in (module for name, module in layer.named_modules() if name.rpartition(".")[2] in decoder.feed_forward):
                    fully_shard(part, mesh=mesh)
        fully_shard(objective, mesh=mesh)
        if isinstance(model.items, ReadsBatches):
            model.items.most = self._largest
            self._readers.append(model.items)
        return objective

    @contextlib.contextmanager
    def syncing(self, objective: nn.Module, *, on: bool) -> Iterator[None]:
        """As `Team` says."""
        if isinstance(objective, FSDPModule):
            objective.set_requires_gradient_sync(on)
        elif isinstance(objective, DistributedDataParallel) and not on:
            with objective.no_sync():
                yield
            return
        yield

    @contextlib.contextmanager
    def whole(self, model: nn.Module) -> Iterator[None]:
        """As `Team` says."""
        sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
        for module in sharded:
            module.unshard()
        try:
            yield
        finally:
            for module in sharded:
                module.reshard()

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """As `Team` says."""
        dist.all_reduce(values)
        return values

    def _largest(self, value: int) -> int:
        """The largest of the processes' numbers."""
        number = torch.tensor([value], device=self._device)
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return int(number)

    def first(self, value: float) -> float:
        """As `Team` says."""
        number = torch.tensor([value], dtype=torch.float64, device=self._device)
        dist.broadcast(number, src=0)
        return float(number)

    def wait(self) -> None:
        """As `Team` says."""
        dist.barrier()


def whole_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """A model's tensors, put together from the shards of all processes, each of which must ask for them."""
    return {name: whole_tensor(tensor) for name, tensor in model.state_dict().items()}


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor, put together where it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
