# SPDX-License-Identifier: Apache-2.0
"""The same training step in PyTorch: a Llama model, AdamW, random tokens.

    /usr/bin/python3 torch_train.py [--shape=llama-6m] [--batch_size=16]
        [--sequence_length=256] [--threads=2] [--steps=5]

Prints tokens a second, the median of the steps after the first.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

# hidden, layers, ffn, heads, kv_heads, vocab, tied
SHAPES = {
    "llama-6m": (256, 6, 768, 8, 4, 2048, False),
    "smollm-135m": (576, 30, 1536, 9, 3, 49152, True),
}


class RMSNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Block(nn.Module):
    def __init__(self, hidden, ffn, heads, kv_heads):
        super().__init__()
        self.heads, self.kv_heads, self.dim = heads, kv_heads, hidden // heads
        kv = kv_heads * self.dim
        self.norm1, self.norm2 = RMSNorm(hidden), RMSNorm(hidden)
        self.q = nn.Linear(hidden, hidden, bias=False)
        self.k = nn.Linear(hidden, kv, bias=False)
        self.v = nn.Linear(hidden, kv, bias=False)
        self.o = nn.Linear(hidden, hidden, bias=False)
        self.gate = nn.Linear(hidden, ffn, bias=False)
        self.up = nn.Linear(hidden, ffn, bias=False)
        self.down = nn.Linear(ffn, hidden, bias=False)

    def forward(self, x, cos, sin, mask):
        batch, length, _ = x.shape
        h = self.norm1(x)
        q = self.q(h).view(batch, length, self.heads, self.dim).transpose(1, 2)
        k = self.k(h).view(batch, length, self.kv_heads, self.dim).transpose(1, 2)
        v = self.v(h).view(batch, length, self.kv_heads, self.dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        groups = self.heads // self.kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        scores = q @ k.transpose(2, 3) * self.dim**-0.5 + mask
        heads = torch.softmax(scores, -1) @ v
        x = x + self.o(heads.transpose(1, 2).reshape(batch, length, -1))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self, hidden, layers, ffn, heads, kv_heads, vocab, tied, length):
        super().__init__()
        self.tokens = nn.Embedding(vocab, hidden)
        self.blocks = nn.ModuleList(
            Block(hidden, ffn, heads, kv_heads) for _ in range(layers)
        )
        self.norm = RMSNorm(hidden)
        self.lm_head = nn.Linear(hidden, vocab, bias=False)
        if tied:
            self.lm_head.weight = self.tokens.weight
        dim = hidden // heads
        angles = torch.outer(
            torch.arange(length), 10000.0 ** (-torch.arange(0, dim, 2) / dim)
        )
        self.cos, self.sin = angles.cos(), angles.sin()
        self.mask = torch.full((length, length), float("-inf")).triu(1)

    def forward(self, ids):
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin, self.mask)
        return self.lm_head(self.norm(x))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="llama-6m", choices=SHAPES)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--sequence_length", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    shape = SHAPES[args.shape]
    model = Llama(*shape, args.sequence_length)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1
    )
    rates = []
    for step in range(args.steps + 1):
        ids = torch.randint(shape[5], (args.batch_size, args.sequence_length + 1))
        start = time.perf_counter()
        logits = model(ids[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds = time.perf_counter() - start
        if step > 0:
            rates.append(args.batch_size * args.sequence_length / seconds)
    print(
        json.dumps(
            {
                "shape": args.shape,
                "parameters": sum(p.numel() for p in model.parameters()),
                "tokens_per_second": round(statistics.median(rates)),
            }
        )
    )


main()
