"""Muon for the matrices of the blocks, AdamW for the rest; both updated with the fewest kernels."""
import torch

ADAM_NAMES = ("embed", "router", "conv", "in_ba", "A_log", "dt_bias", "norm", "ln1", "ln2", "q_norm", "k_norm",
              "enorm", "hnorm")
NO_DECAY = ("A_log", "dt_bias", "norm", "ln1", "ln2", "q_norm", "k_norm", "enorm", "hnorm")


def newton_schulz(g, steps=5):
    """Nearly orthogonal factor of each matrix of g [n, rows, cols], rows <= cols, in bf16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.mT
        x = a * x + (b * s + c * (s @ s)) @ x
    return x


def leaf(name):
    return name.rsplit(".", 1)[-1]


class Optimizer:
    """lr factors come from the caller at every step; state_dict holds the momenta."""

    def __init__(self, model, cfg):
        self.cfg = cfg
        named = list(model.named_parameters())
        muon = [p for n, p in named if leaf(n) not in ADAM_NAMES]
        self.groups = {}
        for p in muon:
            rows, cols = p.shape[-2:]
            self.groups.setdefault((min(rows, cols), max(rows, cols)), []).append(p)
        self.momentum = {p: torch.zeros_like(p) for p in muon}
        decayed = [p for n, p in named if leaf(n) in ADAM_NAMES and leaf(n) not in NO_DECAY]
        plain = [p for n, p in named if leaf(n) in NO_DECAY]
        dev = named[0][1].is_cuda
        self.adam = torch.optim.AdamW([{"params": decayed, "weight_decay": cfg["embed_decay"]},
                                       {"params": plain, "weight_decay": 0.0}],
                                      lr=cfg["adam_lr"], betas=(0.9, 0.95), eps=1e-10, fused=dev)
        self.ns = newton_schulz

    @staticmethod
    def _wide(p):
        x = p if p.dim() == 3 else p.unsqueeze(0)
        return x if x.shape[-2] <= x.shape[-1] else x.mT

    @torch.no_grad()
    def step(self, factor, momentum=0.95):
        lr = self.cfg["muon_lr"] * factor
        for (rows, cols), params in self.groups.items():
            grads = [p.grad for p in params]
            moms = [self.momentum[p] for p in params]
            torch._foreach_lerp_(moms, grads, 1 - momentum)
            torch._foreach_lerp_(grads, moms, momentum)  # Nesterov
            update = self.ns(torch.cat([self._wide(g) for g in grads]))
            scale = 0.2 * cols ** 0.5
            at = 0
            torch._foreach_mul_(params, 1 - lr * self.cfg["weight_decay"])
            for p in params:
                view = self._wide(p)
                view.add_(update[at:at + view.shape[0]].to(p.dtype), alpha=-lr * scale)
                at += view.shape[0]
        for group in self.adam.param_groups:
            group["lr"] = self.cfg["adam_lr"] * factor
        self.adam.step()

    def state_dict(self):
        return {"momentum": list(self.momentum.values()), "adam": self.adam.state_dict()}

    def load_state_dict(self, state):
        for mine, saved in zip(self.momentum.values(), state["momentum"]):
            mine.copy_(saved)
        self.adam.load_state_dict(state["adam"])
