"""Fine-tunes the same model on the same rows with PyTorch and with lacuna, over several seeds, and compares test accuracies.

    accuracy_torch.py SERVER MODEL TRAIN.jsonl TEST.jsonl

SERVER is the binary of models/benches/step_server.rs, MODEL a folder with a pretrained BERT. Rows are `{"text", "label"}`, or with
`text_pair`. Both sides see the same rows in the same order from the same initial weights; each side draws its own dropout masks. Also
prints the seconds of an epoch; PyTorch pads to the longest row of a batch, as the Trainer of transformers does.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time

import torch
import transformers

from bench_torch import Ours, Torch, hardware

BATCH = 16


def read(path, count):
    """A sample of a file's rows, the same in every run; sampled because the file may be sorted."""
    with open(path) as file:
        rows = [json.loads(line) for line in file]
    return random.Random(0).sample(rows, min(count, len(rows)))


def batches_of(rows, labels, tokenizer, max_tokens):
    for start in range(0, len(rows), BATCH):
        chunk = rows[start : start + BATCH]
        texts, pairs = [row["text"] for row in chunk], [row.get("text_pair") for row in chunk]
        encoded = tokenizer(texts, pairs if pairs[0] else None, truncation=True, max_length=max_tokens)
        ids = {key: encoded[key] for key in ("input_ids", "token_type_ids")}
        yield {**ids, "labels": [labels.index(row["label"]) for row in chunk]}


def accuracy(logits_of, test):
    right = total = 0
    for number, batch in test:
        predicted = torch.as_tensor(logits_of(number)).reshape(-1, 2).argmax(1)
        right += (predicted == torch.tensor(batch["labels"])).sum().item()
        total += len(batch["labels"])
    return right / total


def initial_model(folder, seed):
    """The pretrained encoder with a new head for two labels, drawn from the seed."""
    torch.manual_seed(seed)
    config = transformers.AutoConfig.from_pretrained(folder, num_labels=2)
    return transformers.AutoModelForSequenceClassification.from_pretrained(folder, config=config)


def run(options, seed, train, test, labels, tokenizer):
    order = random.Random(seed).sample(train, len(train))
    train_batches = list(batches_of(order, labels, tokenizer, options.max_tokens))
    batches = train_batches + list(batches_of(test, labels, tokenizer, options.max_tokens))
    test_numbers = list(enumerate(batches))[len(train_batches) :]
    steps = len(train_batches) * options.epochs
    found, seconds = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        model = initial_model(options.model, seed)
        model.save_pretrained(folder)
        file = os.path.join(folder, "batches.json")
        with open(file, "w") as out:
            json.dump(batches, out)
        for precision in options.precisions:
            ours = Ours(options.server, folder, precision, options.threads, file, options.lr, steps, seed)
            spent = [sum(ours.train(number) for number in range(len(train_batches))) for _ in range(options.epochs)]
            found[precision] = accuracy(lambda number: ours.ask(f"logits {number}"), test_numbers)
            seconds[precision] = statistics.median(spent)
            ours.close()
    if not options.skip_torch:
        found["torch"], seconds["torch"] = with_torch(model, batches, len(train_batches), test_numbers, steps, options)
    return found, seconds


def with_torch(model, batches, train, test_numbers, steps, options):
    """Trains with the same schedule, weight decay and clipping as lacuna."""
    torch.set_num_threads(options.threads)
    side = Torch(model, batches, bf16=False)
    decays = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": decays, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    side.optimizer = torch.optim.AdamW(groups, lr=options.lr, fused=True)
    warmup = -(-steps * 6 // 100)
    schedule = transformers.get_linear_schedule_with_warmup(side.optimizer, warmup, steps)

    def clip(*_):
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)

    side.optimizer.register_step_pre_hook(clip)
    spent = []
    for _ in range(options.epochs):
        start = time.perf_counter()
        for number in range(train):
            side.train(number)
            schedule.step()
        spent.append(time.perf_counter() - start)

    def logits(number):
        side.infer(number)
        return side.logits

    return accuracy(logits, test_numbers), statistics.median(spent)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("server", "model", "train", "test"):
        parser.add_argument(name)
    parser.add_argument("--rows", type=int, default=1000, help="training rows")
    parser.add_argument("--test-rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--precisions", nargs="+", default=["f32", "auto"])
    parser.add_argument("--skip-torch", action="store_true")
    options = parser.parse_args()
    hardware()
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    train, test = read(options.train, options.rows), read(options.test, options.test_rows)
    labels = sorted({row["label"] for row in train})
    outcomes = []
    for seed in options.seeds:
        outcomes.append(run(options, seed, train, test, labels, tokenizer))
        print(f"seed {seed}: {json.dumps(outcomes[-1])}", file=sys.stderr, flush=True)
    print(f"{len(train)} rows, {len(test)} test rows, {options.epochs} epochs, seeds {options.seeds}, {options.threads} thread(s)")
    print(f"{'':8}{'accuracy of each seed':>28}{'mean':>8}{'s an epoch':>12}")
    for name in outcomes[0][0]:
        each = [found[name] for found, _ in outcomes]
        epoch = statistics.median(seconds[name] for _, seconds in outcomes)
        print(f"{name:8}{'  '.join(f'{a:.4f}' for a in each):>28}{statistics.mean(each):>8.4f}{epoch:>12.2f}")


if __name__ == "__main__":
    main()
