"""Makes metrics.json: what the public implementations say of fixed inputs. The Rust metrics are tested against it.

    pip install scikit-learn nltk scipy mauve-text faiss-cpu && python metrics.py

The inputs are written into the file beside the values, so that the tests need no generator of random numbers.
"""

import collections
import json
import re
import string
import zlib
from pathlib import Path

import numpy as np
from mauve.compute_mauve import get_divergence_curve_for_multinomials, get_fronter_integral
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from nltk.metrics.distance import edit_distance
from scipy import linalg
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import auc, f1_score

rng = np.random.default_rng(7)


def rounded(x):
    return np.round(np.asarray(x, dtype=float), 6)


def logistic():
    x = rounded(rng.normal(size=(40, 5)) + 0.8 * np.repeat(np.eye(3, 5), [14, 13, 13], axis=0))
    y = np.repeat([0, 1, 2], [14, 13, 13])
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=10000).fit(x, y)
    return dict(x=x.tolist(), y=y.tolist(), probabilities=model.predict_proba(x).tolist())


def macro_f1():
    gold, predicted = rng.integers(0, 4, 60), rng.integers(0, 5, 60)
    value = f1_score(gold, predicted, average="macro", zero_division=0)
    return dict(gold=gold.tolist(), predicted=predicted.tolist(), labels=5, value=value)


TEXTS = [
    "The plot wanders for two hours and never arrives.",
    "The plot is thin, and the actors are bored.",
    "A warm and funny film with a good heart.",
    "A warm film, and a funny one.",
    "The actors are bored and it shows in every scene.",
    "I would not see it again, not even for two hours of free popcorn.",
]


def words(text):
    return re.findall(r"[\w']+", text.lower())


def self_bleu():
    tokens = [words(text) for text in TEXTS]
    smooth = SmoothingFunction().method1
    scores = [sentence_bleu(tokens[:i] + tokens[i + 1 :], t, smoothing_function=smooth) for i, t in enumerate(tokens)]
    return float(np.mean(scores))


def distinct():
    tokens, budget = [words(text) for text in TEXTS], 30
    values = []
    for n in [1, 2, 3]:
        grams, left = [], budget
        for text in tokens:
            text = text[:left]
            left -= len(text)
            grams += [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
        values.append(len(set(grams)) / len(grams))
    return dict(budget=budget, values=values)


def edits():
    pairs = [(TEXTS[0], TEXTS[1]), (TEXTS[2], TEXTS[3]), (TEXTS[4], TEXTS[5]), ("", "ab"), ("naïve café", "naive cafe")]
    return [dict(a=a, b=b, value=edit_distance(a, b)) for a, b in pairs]


def frechet():
    a, b = rounded(rng.normal(size=(30, 4))), rounded(rng.normal(size=(25, 4)) * [1.0, 2.0, 0.5, 1.0] + 0.3)
    mean, ca, cb = a.mean(0) - b.mean(0), np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    value = mean @ mean + np.trace(ca + cb - 2 * linalg.sqrtm(ca @ cb).real)
    return dict(a=a.tolist(), b=b.tolist(), value=float(value))


def mauve():
    """Histograms over clusters, and the area that mauve-text computes from them."""
    cases = []
    for p, q in [([8, 2, 5, 0, 5], [1, 6, 5, 4, 4]), ([3, 3, 4], [3, 3, 4]), ([10, 0], [0, 10]), ([50, 30, 15, 5], [40, 30, 20, 10])]:
        p, q = np.array(p) / sum(p), np.array(q) / sum(q)
        mixture_weights = np.linspace(1e-6, 1 - 1e-6, 25)
        curve = get_divergence_curve_for_multinomials(p, q, mixture_weights, 5)
        x, y = curve.T
        i, j = np.argsort(x), np.argsort(y)
        value = 0.5 * (auc(x[i], y[i]) + auc(y[j], x[j]))
        cases.append(dict(p=p.tolist(), q=q.tolist(), value=float(value), frontier=float(get_fronter_integral(p, q))))
    return cases


def normalize_answer(s):
    """As the evaluation script of SQuAD v1.1 does: lower case, without punctuation, articles and extra white space."""
    s = "".join(ch for ch in s.lower() if ch not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", s).split())


def squad():
    def f1(prediction, truth):
        p, t = normalize_answer(prediction).split(), normalize_answer(truth).split()
        same = sum((collections.Counter(p) & collections.Counter(t)).values())
        return 0 if same == 0 else 2 * same / (len(p) + len(t))

    cases = []
    for prediction, truths in [
        ("the Eiffel Tower", ["Eiffel Tower", "tower"]),
        ("in 1889, Paris", ["1889"]),
        ("A man, a plan", ["man plan"]),
        ("Nothing", ["everything else"]),
        ("Theatre of an era", ["theatre era", "the theatre"]),
        ("U.S. Army", ["US army", "The army of the US"]),
        ("", ["x"]),
        ("café — the best", ["café best", "cafe"]),
        ("x x y", ["x y y"]),
    ]:
        em = max(normalize_answer(prediction) == normalize_answer(t) for t in truths)
        cases.append(dict(prediction=prediction, truths=truths, em=float(em), f1=float(max(f1(prediction, t) for t in truths))))
    return cases


def compression():
    """zlib at level 6: the ratio depends a little on the implementation, so the test is loose."""
    text = "\n".join(TEXTS * 5).encode()
    return dict(repeat=5, value=len(text) / len(zlib.compress(text, 6)))


if __name__ == "__main__":
    found = dict(
        texts=TEXTS, logistic=logistic(), macro_f1=macro_f1(), self_bleu=self_bleu(), distinct=distinct(), edits=edits(),
        frechet=frechet(), mauve=mauve(), squad=squad(), compression=compression(),
    )
    (Path(__file__).parent / "metrics.json").write_text(json.dumps(found) + "\n")
