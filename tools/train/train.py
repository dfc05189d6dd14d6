#!/usr/bin/env python3
"""Train the demo model in one or several short slots, on one or several GPUs (torchrun).

The learning rate is a function of the seconds spent over the seconds granted (all slots together), so
that a run always ends annealed: warm-up, constant, then linear to zero. A slot ends when its own time is
up or the whole budget is spent; it then leaves ckpt.pt, from which the next slot goes on.
"""
import argparse
import csv
import json
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist

from data import Windows, evaluate, load_tokens
from model import DemoModel, ModelConfig
from optim import Optimizer, newton_schulz

FIELDS = ("step", "tokens", "seconds", "lr_factor", "loss", "mtp_loss", "balance", "grad_norm", "min_share",
          "max_share", "val_bpb", "val_mtp_agreement")


def arguments():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("config", type=Path)
    ap.add_argument("run", type=Path, help="folder of the checkpoint, the log and the loss curve")
    ap.add_argument("--train", nargs="+", type=Path, required=True)
    ap.add_argument("--valid", type=Path, required=True)
    ap.add_argument("--valid-bytes", type=int, required=True)
    ap.add_argument("--budget", type=float, help="seconds of training, all slots together")
    ap.add_argument("--until", type=float, help="end of the run as seconds since 1970, instead of a budget")
    ap.add_argument("--slot", type=float, default=1e9, help="seconds of training in this slot")
    ap.add_argument("--eval-every", type=float, default=60)
    ap.add_argument("--save-every", type=float, default=120)
    ap.add_argument("--max-steps", type=int, default=1 << 60)
    ap.add_argument("--no-compile", action="store_true")
    ap.add_argument("--fp32", action="store_true")
    return ap.parse_args()


def setup(args):
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    if world > 1:  # every rank sees its own GPU as number 0, so that they share compiled kernels
        os.environ["CUDA_VISIBLE_DEVICES"] = str(rank)
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", 0) if cuda else torch.device("cpu")
    if world > 1:
        dist.init_process_group("nccl" if cuda else "gloo")
    torch.backends.cuda.matmul.allow_tf32 = False
    return world, rank, device


class Trainer:
    def __init__(self, args):
        self.args = args
        self.world, self.rank, self.device = setup(args)
        conf = json.loads(args.config.read_text())["train"]
        self.conf = conf
        dtype = torch.float32 if args.fp32 else torch.bfloat16
        self.model = DemoModel(ModelConfig.load(args.config), conf["seed"], dtype).to(self.device)
        self.opt = Optimizer(self.model, conf)
        if not args.no_compile:
            self.model.compile()
            self.opt.ns = torch.compile(newton_schulz, dynamic=False)
        self.windows = self._windows(args.train[:1])
        self.valid = load_tokens([args.valid], self.device)
        self.step = self.tokens = 0
        self.spent = 0.0
        self.params = list(self.model.parameters())
        args.run.mkdir(parents=True, exist_ok=True)
        self._resume()

    def _windows(self, paths):
        conf = self.conf
        return Windows(load_tokens(paths, self.device), conf["sequence"], conf["sequences_per_gpu"],
                       self.rank, self.world, conf["seed"])

    def _all_data(self):
        """Later token files may still be on their way while the first step compiles."""
        while not all(p.exists() for p in self.args.train):
            time.sleep(0.2)
        position = self.windows.state() if self.step > 1 else None
        self.windows = self._windows(self.args.train)
        if position:
            self.windows.resume(position)

    def _resume(self):
        path = self.args.run / "ckpt.pt"
        if path.exists():
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.opt.load_state_dict(state["opt"])
            self.windows.resume(state["windows"])
            self.step, self.tokens, self.spent = state["step"], state["tokens"], state["spent"]
            self.say(f"resumed at step {self.step}, {self.spent:.0f} s")

    def save(self):
        if self.rank == 0:
            tmp = self.args.run / "ckpt.tmp"
            torch.save({"model": self.model.state_dict(), "opt": self.opt.state_dict(), "step": self.step,
                        "windows": self.windows.state(), "tokens": self.tokens, "spent": self.spent}, tmp)
            tmp.replace(self.args.run / "ckpt.pt")

    def say(self, text):
        if self.rank == 0:
            print(text, flush=True)

    def factor(self, spent):
        done = min(1.0, spent / (self.args.budget or 1e9))
        hold = self.conf["hold"]
        decay = 1.0 if done < hold else (1 - done) / (1 - hold)
        return max(0.0, min(1.0, (self.step + 1) / self.conf["warmup_steps"]) * decay)

    def reduce_gradients(self):
        if self.world == 1:
            return
        flat = torch.cat([p.grad.flatten() for p in self.params]).to(torch.bfloat16)
        dist.all_reduce(flat)
        flat = flat.float() / self.world
        for p, g in zip(self.params, flat.split([p.numel() for p in self.params])):
            p.grad = g.view_as(p)

    def train_step(self, factor):
        conf = self.conf
        main, ahead, aux, shares = self.model.losses(self.windows.next())
        (main + conf["mtp_weight"] * ahead + conf["balance_weight"] * aux).backward()
        self.reduce_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.params, conf["clip"], foreach=True)
        self.opt.step(factor, 0.85 + 0.1 * min(1.0, self.step / 300))
        for p in self.params:
            p.grad = None
        self.step += 1
        self.tokens += conf["sequence"] * conf["sequences_per_gpu"] * self.world
        return torch.stack([main.detach(), ahead.detach(), aux.detach(), norm, shares.min(), shares.max()])

    def agree(self, value):
        """Rank 0's value, so that all ranks follow one clock."""
        value = torch.tensor([value], dtype=torch.float64, device=self.device)
        if self.world > 1:
            dist.broadcast(value, 0)
        return float(value)

    def clock(self, start):
        return self.agree(self.spent0 + time.time() - start)

    def log(self, writer, stats, factor, result=None):
        row = [self.step, self.tokens, round(self.spent, 2), round(factor, 4), *(round(s, 4) for s in stats.tolist())]
        row += [round(result["bpb"], 5), round(result["mtp_agreement"], 4)] if result else ["", ""]
        if self.rank == 0:
            writer.writerow(row)
        return " ".join(f"{k}={v}" for k, v in zip(FIELDS, row) if v != "")

    def evaluate(self):
        result = evaluate(self.model, self.valid, self.args.valid_bytes, rank=self.rank, world=self.world)
        self.say(f"EVAL step {self.step} {json.dumps(result)}")
        return result

    def run(self):
        args = self.args
        fresh = not (args.run / "loss.csv").exists()
        table = (args.run / "loss.csv").open("a", newline="") if self.rank == 0 else None
        writer = csv.writer(table) if table else None
        if fresh and writer:
            writer.writerow(FIELDS)
        self.spent0 = self.spent
        start = time.time()
        next_eval, next_save, first = self.spent + args.eval_every, self.spent + args.save_every, True
        last_time, last_tokens = start, self.tokens
        factor = self.factor(self.spent)
        while self.step < args.max_steps:
            stats = self.train_step(factor)
            if first:  # compiling is not training: the clock starts after the first step
                stats.tolist()
                self._all_data()
                self.say(f"first step after {time.time() - start:.1f} s")
                start, last_time, first = time.time(), time.time(), False
                if args.until:
                    args.budget = self.agree(self.spent0 + args.until - start)
                    self.say(f"budget {args.budget:.0f} s")
            if self.step % 10 == 0:
                self.spent = self.clock(start)
                if self.step % 50 == 0:
                    line = self.log(writer, stats, factor)
                    now = time.time()
                    self.say(f"{line} tok/s={(self.tokens - last_tokens) / (now - last_time):.0f}")
                    last_time, last_tokens = now, self.tokens
                if self.spent >= min(args.budget, self.spent0 + args.slot):
                    break
                if self.spent >= next_eval:
                    self.log(writer, stats, factor, self.evaluate())
                    table and table.flush()
                    next_eval += args.eval_every
                    last_time, last_tokens = time.time(), self.tokens
                if self.spent >= next_save:
                    self.save()
                    next_save += args.save_every
            factor = self.factor(self.spent)
        self.spent = self.clock(start)
        self.log(writer, stats, factor, self.evaluate())
        self.save()
        self.say(f"DONE step {self.step} tokens {self.tokens} seconds {self.spent:.1f}")


if __name__ == "__main__":
    trainer = Trainer(arguments())
    trainer.run()
    if trainer.world > 1:
        dist.destroy_process_group()
