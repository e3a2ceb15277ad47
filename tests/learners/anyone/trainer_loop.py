"""A small GPT-2 trained by Hugging Face Trainer; what makes it a learner is marked with `outer`."""

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

import tenfold

CONTEXT, BATCH = 32, 8


class Said(TrainerCallback):
    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            print(f"trained {state.global_step} {state.global_step} {logs['loss']}", flush=True)


def main(text_file: str, syncer: str, out: str, name: str) -> None:
    torch.set_num_threads(1)
    data = torch.tensor(list(Path(text_file).read_bytes()))
    model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_positions=CONTEXT, n_embd=48, n_layer=2, n_head=4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def sample(number: int) -> dict[str, torch.Tensor]:
        start = number * CONTEXT % (len(data) - CONTEXT)
        return {"input_ids": data[start : start + CONTEXT], "labels": data[start : start + CONTEXT]}

    arguments = TrainingArguments(
        output_dir=out,
        per_device_train_batch_size=BATCH,
        max_steps=1_000_000,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        accelerator_config={"dispatch_batches": False},
    )
    with tenfold.learner(model, optimizer, syncer=syncer, name=name, batch=BATCH) as outer:
        constant = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        callbacks = [outer.callback(BATCH * CONTEXT), Said()]
        Trainer(
            model=model,
            args=arguments,
            train_dataset=outer.dataset(sample),
            optimizers=(optimizer, constant),
            callbacks=callbacks,
        ).train()
    print("finished", outer.finished, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
