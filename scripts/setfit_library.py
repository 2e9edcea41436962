"""Trains SetFit with its own library on the gold rows of a run, beside which `lacuna compare`'s SetFit can be held.

    python scripts/setfit_library.py RUN GOLD TEST MODEL [--max-steps N]

RUN is a run's folder (its manifest has the lines of the gold rows), GOLD and TEST are its files, MODEL is the sentence encoder's folder.
Settings are the library's own, but for --max-steps. Needs `setfit`.
"""

import argparse
import json
import pathlib
import time

import datasets
from sentence_transformers import SentenceTransformer, models
import setfit
import sklearn.linear_model


def rows(path, lines=None):
    """The rows of a JSON lines file, or those on some of its lines, counted from 1."""
    with open(path, encoding="utf-8") as file:
        parsed = [json.loads(line) for line in file]
    return parsed if lines is None else [parsed[line - 1] for line in lines]


def encoder(folder):
    """The encoder with mean pooling and vectors of length 1, as all-MiniLM-L6-v2 is published."""
    transformer = models.Transformer(folder, max_seq_length=256)
    pooling = models.Pooling(transformer.get_word_embedding_dimension())
    return SentenceTransformer(
        modules=[transformer, pooling, models.Normalize()], device="cpu")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["run", "gold", "test", "model"]:
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--max-steps", type=int, default=-1)
    options = parser.parse_args()
    splits = json.loads((options.run / "manifest.json").read_text())["splits"]
    gold, test = rows(options.gold, sorted(splits["mine"] + splits["select"])), rows(options.test)
    labels = sorted({row["label"] for row in gold})
    body = encoder(str(options.model))
    model = setfit.SetFitModel(model_body=body, model_head=sklearn.linear_model.LogisticRegression(), labels=labels)
    arguments = setfit.TrainingArguments(max_steps=options.max_steps, report_to="none", save_strategy="no")
    columns = {"text": [row["text"] for row in gold], "label": [labels.index(row["label"]) for row in gold]}
    clock = time.time()
    trainer = setfit.Trainer(model=model, args=arguments, train_dataset=datasets.Dataset.from_dict(columns))
    trainer.train()
    seconds = time.time() - clock
    predicted = [str(label) for label in model.predict([row["text"] for row in test], as_numpy=False)]
    right = sum(label == row["label"] for label, row in zip(predicted, test))
    print(f"{options.run}: setfit {setfit.__version__}, {len(gold)} gold rows, {seconds:.0f} s: "
          f"{100 * right / len(test):.1f} % of {len(test)} test rows")


if __name__ == "__main__":
    main()
