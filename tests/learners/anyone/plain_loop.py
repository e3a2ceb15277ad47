"""A character model trained by a plain loop of forty lines; what makes it a learner is marked with `outer`."""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import tenfold

CONTEXT, WIDTH, BATCH = 32, 48, 8


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(WIDTH), nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.size(1))
        normed = self.norm(x)
        x = x + self.attention(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(x)


def main(text_file: str, syncer: str, name: str) -> None:
    torch.set_num_threads(1)
    data = torch.tensor(list(Path(text_file).read_bytes()))
    model = nn.Sequential(nn.Embedding(256, WIDTH), Block(), Block(), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 256))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with tenfold.learner(model, optimizer, syncer=syncer, name=name, batch=BATCH) as outer:
        for samples in outer:
            starts = [sample * CONTEXT % (len(data) - CONTEXT - 1) for sample in samples]
            tokens = torch.stack([data[start : start + CONTEXT + 1] for start in starts])
            loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            outer.step(len(starts) * CONTEXT, loss)
            print(f"trained {samples[0]} {samples[-1]} {loss.item():.4f}", flush=True)
    print("finished", outer.finished, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
