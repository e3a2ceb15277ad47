"""A regression with batches of its own choice: it leaves the numbers of samples out and calls the outer step alone."""

import sys

import torch
from torch import nn

import tenfold


def main(syncer: str, name: str) -> None:
    torch.set_num_threads(1)
    model, generator = nn.Linear(4, 1), torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    goes_on, step = True, 0
    with tenfold.learner(model, optimizer, syncer=syncer, name=name, batch=8, recipe={"lr": 0.05}) as outer:
        while goes_on:
            x = torch.randn(8, 4, generator=generator)
            y = x.sum(1, keepdim=True) + torch.randn(8, 1, generator=generator)  # never learned to the last bit
            loss = (model(x) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            goes_on, step = outer.step(8, loss), step + 1
            print(f"trained {step} {step} {loss.item():.4f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
