"""Compares an epoch of fine-tuning on real rows with the Trainer of transformers: same weights, same rows in the same order, same cores.

    epoch_torch.py SERVER MODEL TRAIN.jsonl

SERVER is the binary of models/benches/step_server.rs, MODEL a folder with a pretrained BERT, rows are `{"text", "label"}` or with
`text_pair`. The Trainer pads to the longest row of a batch and, in a second measurement over fewer steps, to 512 tokens as the paper's
code does. The time of an epoch is the mean time of a step times the steps of an epoch. Needs accelerate as well as torch and transformers.
"""

import argparse
import json
import os
import statistics
import tempfile
import time

import torch
import transformers

from accuracy_torch import BATCH, batches_of, initial_model, read
from bench_torch import Ours, hardware

FULL_LENGTH = 512


def examples(batches):
    for batch in batches:
        for ids, types, label in zip(batch["input_ids"], batch["token_type_ids"], batch["labels"]):
            yield {"input_ids": ids, "token_type_ids": types, "attention_mask": [1] * len(ids), "labels": label}


class InOrder(transformers.Trainer):
    """A Trainer that keeps the order of the rows, so that both sides see the same batches."""

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def trainer_seconds(model, rows, tokenizer, padding, options, folder):
    """The Trainer's seconds per step."""
    arguments = transformers.TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=options.lr,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    collator = transformers.DataCollatorWithPadding(tokenizer, **padding)
    trainer = InOrder(model=model, args=arguments, train_dataset=rows, data_collator=collator)
    start = time.perf_counter()
    trainer.train()
    return (time.perf_counter() - start) / -(-len(rows) // BATCH)


def ours_seconds(folder, file, precision, steps, options):
    """Our seconds per step, including the first step, as for the Trainer."""
    ours = Ours(options.server, folder, precision, options.threads, file, options.lr, steps, 1)
    seconds = sum(ours.train(number) for number in range(steps)) / steps
    ours.close()
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("server", "model", "train"):
        parser.add_argument(name)
    parser.add_argument("--steps", type=int, default=50, help="steps per round, 16 rows each")
    parser.add_argument("--full-steps", type=int, default=6, help="how many of those steps are also run padded to 512 tokens")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precisions", nargs="+", default=["f32", "auto"])
    options = parser.parse_args()
    hardware()
    torch.set_num_threads(options.threads)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    everything = read(options.train, 10**9)
    labels = sorted({row["label"] for row in everything})
    batches = list(batches_of(everything[: options.steps * BATCH], labels, tokenizer, FULL_LENGTH))
    rows = list(examples(batches))
    tokens = [len(row["input_ids"]) for row in rows]
    found = {}
    for round in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "batches.json")
            with open(file, "w") as out:
                json.dump(batches, out)
            initial_model(options.model, round).save_pretrained(folder)
            for precision in options.precisions:
                found.setdefault(f"lacuna {precision}", []).append(ours_seconds(folder, file, precision, len(batches), options))
            paddings = {
                "Trainer, longest of a batch": ({"padding": "longest"}, rows),
                f"Trainer, {FULL_LENGTH} tokens": ({"padding": "max_length", "max_length": FULL_LENGTH}, rows[: options.full_steps * BATCH]),
            }
            for name, (padding, some) in paddings.items():
                model = initial_model(options.model, round)
                found.setdefault(name, []).append(trainer_seconds(model, some, tokenizer, padding, options, folder))
    steps = -(-len(everything) // BATCH)
    seconds = {name: steps * statistics.median(each) for name, each in found.items()}
    print(f"{len(everything)} rows, mean {statistics.mean(tokens):.0f} tokens, {options.threads} thread(s), medians of {options.rounds}")
    print(f"{'':28}{'s an epoch':>12}" + "".join(f"{name:>14}" for name in seconds if name.startswith("lacuna")) + "  (times faster)")
    for name, spent in seconds.items():
        ratios = "".join(f"{spent / ours:>14.2f}" for other, ours in seconds.items() if other.startswith("lacuna"))
        print(f"{name:28}{spent:>12.1f}{ratios}", flush=True)


if __name__ == "__main__":
    main()
