"""Compares lacuna's logits with those of Hugging Face transformers for the same model folder.

    interop.py MODEL PREDICTIONS    PREDICTIONS: JSON lines of `lacuna predict MODEL --logits`, with text (and text_pair) and logits

Prints one line: PASS or FAIL, with the largest absolute difference. Exits with 0 or 1.
"""

import argparse
import json
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def fail(reason):
    print(f"FAIL  {reason}")
    sys.exit(1)


def read_predictions(path):
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    if not rows:
        fail(f"{path}: no predictions")
    for number, row in enumerate(rows, 1):
        if "text" not in row or not isinstance(row.get("logits"), list):
            fail(f"{path}: row {number} has no text or no list of logits")
    return rows


def reference_logits(tokenizer, model, row, max_length):
    encoded = tokenizer(row["text"], row.get("text_pair"), truncation=True, max_length=max_length, return_tensors="pt")
    with torch.inference_mode():
        return model(**encoded).logits[0].float()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model")
    arguments.add_argument("predictions")
    arguments.add_argument("--tolerance", type=float, default=1e-4, help="largest absolute difference that passes")
    arguments.add_argument("--max-length", type=int, help="tokens per text (default: what tokenizer_config.json says)")
    given = arguments.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model, loading = AutoModelForSequenceClassification.from_pretrained(given.model, output_loading_info=True)
    model.eval()
    # transformers initialises a missing tensor at random, so a head that lacuna misnamed would go unnoticed.
    for problem in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if loading[problem]:
            fail(f"{given.model}: {problem}: {sorted(map(str, loading[problem]))}")

    max_length = given.max_length or min(tokenizer.model_max_length, model.config.max_position_embeddings)
    rows, differences = read_predictions(given.predictions), []
    for number, row in enumerate(rows, 1):
        ours, theirs = torch.tensor(row["logits"]), reference_logits(tokenizer, model, row, max_length)
        if ours.shape != theirs.shape:
            fail(f"row {number}: {len(ours)} logits, transformers has {len(theirs)}")
        differences.append((ours - theirs).abs().max())
    # The maximum of a tensor with a NaN is NaN, and NaN does not pass.
    largest = torch.stack(differences).max().item()
    passed = largest <= given.tolerance
    print(f"{'PASS' if passed else 'FAIL'}  {given.model}: {len(rows)} texts, largest difference of a logit {largest:.2e} (tolerance {given.tolerance:.0e})")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
