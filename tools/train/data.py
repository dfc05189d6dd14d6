"""Token files as one array on the device, cut into windows in a new random order every epoch."""
import math

import numpy as np
import torch
import torch.nn.functional as F

from model import linear


def load_tokens(paths, device):
    ids = np.concatenate([np.fromfile(p, np.uint16) for p in paths])
    return torch.from_numpy(ids.astype(np.int32)).to(device)


class Windows:
    """Windows of length + 2 tokens; all ranks draw the same order and take their own share of each batch."""

    def __init__(self, tokens, length, batch, rank=0, world=1, seed=1):
        self.tokens, self.length, self.batch = tokens, length, batch
        self.rank, self.world, self.seed = rank, world, seed
        self.epoch, self.at = -1, 0
        self.starts = torch.empty(0, dtype=torch.long)
        self.span = torch.arange(length + 2, device=tokens.device)

    def _shuffle(self):
        self.epoch += 1
        gen = torch.Generator().manual_seed(1000 * self.seed + self.epoch)
        shift = int(torch.randint(0, self.length, (1,), generator=gen))
        n = (len(self.tokens) - 2 - shift) // self.length
        order = torch.randperm(n, generator=gen)
        self.starts = (shift + self.length * order).to(self.tokens.device)
        self.at = 0

    def next(self):
        total = self.batch * self.world
        if self.at + total > len(self.starts):
            self._shuffle()
        lo = self.at + self.rank * self.batch
        self.at += total
        return self.tokens[self.starts[lo:lo + self.batch, None] + self.span].long()

    def state(self):
        return {"epoch": self.epoch, "at": self.at}

    def resume(self, state):
        self.epoch = state["epoch"] - 1
        self._shuffle()
        self.at = state["at"]


def _window_sums(model, ids):
    """Summed loss of ids[:, 1:], and how often the MTP head guesses the trunk's own next choice."""
    hidden, _, _ = model.trunk(F.embedding(ids[:, :-1], model.embed))
    logits = linear(hidden, model.embed, model.dtype)
    nll = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="sum").double()
    ahead, _, _ = model.mtp_hidden(hidden[:, :-1], F.embedding(ids[:, 1:-1], model.embed))
    guess = linear(ahead, model.embed, model.dtype).argmax(-1)
    agree = (guess == logits[:, 1:].argmax(-1)).sum()
    return torch.stack([nll, agree.double(), torch.tensor(float(guess.numel()), device=nll.device).double()])


@torch.no_grad()
def evaluate(model, tokens, size, length=1024, batch=64, rank=0, world=1):
    """Bits per byte and perplexity over non-overlapping windows: every token but the first is predicted once.

    Runs uncompiled (its shapes differ from training's); the ranks share the windows.
    """
    compiled, model.fns = model.fns, model.plain
    n = len(tokens) - 1
    span = torch.arange(length + 1, device=tokens.device)
    starts = torch.arange(0, n - length + 1, length, device=tokens.device)
    sums = torch.zeros(3, dtype=torch.float64, device=tokens.device)
    for lo in range(rank * batch, len(starts), batch * world):
        sums += _window_sums(model, tokens[starts[lo:lo + batch, None] + span].long())
    tail = tokens[len(starts) * length:].long()[None]
    if rank == 0 and tail.shape[1] > 2:
        sums += _window_sums(model, tail)
    if world > 1:
        torch.distributed.all_reduce(sums)
    model.fns = compiled
    nll, agree, seen = sums.tolist()
    return {"bpb": nll / math.log(2) / size, "perplexity": math.exp(nll / n), "nll": nll / n,
            "mtp_agreement": agree / max(1, seen)}
