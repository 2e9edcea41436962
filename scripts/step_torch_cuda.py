#!/usr/bin/env python3
"""Training steps of PyTorch on a GPU in the shapes of models/benches/step_cuda.rs: eager and compiled, in bf16 autocast, as JSON lines.

Needs torch and transformers; weights are random, nothing is fetched. `--no-compile` leaves torch.compile out.
"""
import argparse
import json
import statistics
import time

import torch
from transformers import BertConfig, BertForSequenceClassification, DistilBertConfig, DistilBertForSequenceClassification

SHAPES = {"minilm-l6": (6, 384), "distilbert": (6, 768), "bert-base": (12, 768)}
BATCHES = {"16x128": [128] * 16, "64x128": [128] * 64, "16 x 10..200": [10 + i * 2_654_435_761 % 2**32 % 191 for i in range(16)]}


def make(name):
    layers, hidden = SHAPES[name]
    if name == "distilbert":
        config = DistilBertConfig(n_layers=layers, dim=hidden, n_heads=12, hidden_dim=4 * hidden, num_labels=2)
        return DistilBertForSequenceClassification(config).cuda().train()
    config = BertConfig(num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=12, intermediate_size=4 * hidden, num_labels=2)
    return BertForSequenceClassification(config).cuda().train()


def batch(lengths):
    longest = max(lengths)
    ids = torch.randint(1000, 30000, (len(lengths), longest), device="cuda")
    mask = torch.tensor([[int(i < n) for i in range(longest)] for n in lengths], device="cuda")
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.randint(0, 2, (len(lengths),), device="cuda")}


def bench(name, batch_name, compiled, steps):
    model = make(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)
    inputs = batch(BATCHES[batch_name])
    if compiled:
        model = torch.compile(model)

    def step():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()  # waits, as lacuna's step does

    start = time.perf_counter()
    for _ in range(5):
        step()
    warm = time.perf_counter() - start
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    kind = "compiled" if compiled else "eager"
    result = {"torch": torch.__version__, "model": name, "batch": batch_name, "kind": kind}
    times_ms = {"step_ms": round(statistics.median(times), 3), "fastest_ms": round(min(times), 3)}
    print(json.dumps(result | times_ms | {"warm_s": round(warm, 1)}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--model", choices=SHAPES)
    args = parser.parse_args()
    for compiled in [False] if args.no_compile else [False, True]:
        for name in [args.model] if args.model else SHAPES:
            for batch_name in BATCHES:
                torch.compiler.reset()
                bench(name, batch_name, compiled, args.steps)


if __name__ == "__main__":
    main()
