"""Makes scikit.json: what scikit-learn says of fixed inputs. The measures of `src/measure` are tested against it.

    pip install scikit-learn && python scikit.py

The inputs are written into the file beside the values, so that the tests need no generator of random numbers. Each case has a
generator of its own, so that a new case changes no other.
"""

import json
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, log_loss, roc_auc_score


def rounded(x):
    return np.round(np.asarray(x, dtype=float), 6)


def sparse_rows(matrix):
    matrix = csr_matrix(matrix)
    matrix.sort_indices()
    return [dict(index=row.indices.tolist(), value=row.data.tolist()) for row in matrix]


def regression(c):
    return LogisticRegression(C=c, tol=1e-12, max_iter=100000)


def logistic():
    """Three labels, dense and sparse. Two labels: scikit-learn has one weight a feature then, lacuna two, so that its C is half."""
    rng = np.random.default_rng(11)
    y = np.repeat([0, 1, 2], [14, 13, 13])
    dense = rounded(rng.normal(size=(40, 5)) + 0.8 * np.repeat(np.eye(3, 5), [14, 13, 13], axis=0))
    sparse = np.where(rng.random((40, 30)) < 0.15, rounded(rng.random((40, 30))), 0.0)
    sparse += 0.7 * np.eye(3, 30)[y] * (rng.random((40, 1)) < 0.5)
    probabilities = lambda x: [dict(c=c, value=regression(c).fit(x, y).predict_proba(x).tolist()) for c in (0.1, 10.0)]
    two = (y > 0).astype(int)
    return dict(
        gold=y.tolist(),
        dense=dict(rows=dense.tolist(), fits=probabilities(dense)),
        sparse=dict(width=30, rows=sparse_rows(sparse), fits=probabilities(csr_matrix(sparse))),
        two=dict(gold=two.tolist(), c=0.5, value=regression(1.0).fit(dense, two).predict_proba(dense).tolist()),
        folds=cross_validation(dense, y, rng),
    )


def cross_validation(x, y, rng):
    """The mean log loss of held-out rows. Fold 3 is in training whatever the fold."""
    fold, grid, losses = rng.permutation(np.arange(40) % 4), [0.01, 0.1, 1.0, 10.0], []
    for c in grid:
        out = [(regression(c).fit(x[fold != k], y[fold != k]).predict_proba(x[fold == k]), y[fold == k]) for k in range(3)]
        losses.append(log_loss(np.concatenate([g for _, g in out]), np.concatenate([p for p, _ in out])))
    return dict(fold=fold.tolist(), grid=grid, losses=losses)


TEXTS = [
    "The plot wanders for two hours and never arrives; the plot, the plot!",
    "A warm and funny film: a 5-star café, snake_case and don't.",
    "naïve café — CAFE\u0301 Straße ΣΊΣΥΦΟΣ İstanbul",
    "Ich möchte 2 Karten für Köln, x² und ½ Stunde",
    "Мне нужен новый пин-код, пожалуйста. Новый!",
    "मुझे नया कार्ड चाहिए",
    "我想更改我的密码,谢谢。",
    "カードをなくしました。 新しいカード",
    "ฉันต้องการเปลี่ยนรหัสผ่าน ครับ",
    "  white\t\tspace\u00a0 and\nlines  ",
    "a b c",
    "",
]
UNSEEN = ["The CAFÉ wanders; nobody arrives, arrives, arrives", "我的新密码 пин", "zzz qqq", ""]


def tfidf():
    """The vocabulary and the rows of texts that it was made from and others."""
    cases = []
    for unit, analyzer, ngrams in [("words", "word", 1), ("words", "word", 2), ("characters", "char_wb", 1), ("characters", "char_wb", 4)]:
        vectorizer = TfidfVectorizer(analyzer=analyzer, ngram_range=(1, ngrams), sublinear_tf=True).fit(TEXTS)
        rows = sparse_rows(vectorizer.transform(TEXTS + UNSEEN))
        cases.append(dict(unit=unit, ngrams=ngrams, terms=vectorizer.get_feature_names_out().tolist(), rows=rows))
    return dict(texts=TEXTS, unseen=UNSEEN, cases=cases)


def expected_calibration_error(p, gold, bins):
    confidence, right = p.max(1), p.argmax(1) == gold
    edges = np.linspace(0, 1, bins + 1)
    inside = [(confidence > low) & (confidence <= high) for low, high in zip(edges, edges[1:])]
    return float(sum(abs(right[i].mean() - confidence[i].mean()) * i.mean() for i in inside if i.any()))


def classification():
    """Probabilities in 64ths: there are ties, and none is an edge of a bin. With two labels, scikit-learn's Brier score is of one."""
    rng = np.random.default_rng(12)
    cases = []
    for labels, present, rows in [(2, 2, 60), (4, 4, 80), (5, 4, 80)]:
        gold = rng.integers(0, present, rows)
        logits = rng.normal(size=(rows, labels)) + 1.5 * np.eye(labels)[gold]
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        p[:, 1:] = np.round(p[:, 1:] * 64) / 64
        p[:, 0] = 1 - p[:, 1:].sum(1)
        assert p.min() >= 0
        one_against_rest = [roc_auc_score(gold == k, p[:, k]) for k in range(present)]
        auroc = roc_auc_score(gold, p[:, 1]) if labels == 2 else float(np.mean(one_against_rest))
        if labels == present > 2:
            assert auroc == roc_auc_score(gold, p, multi_class="ovr")
        brier = 2 * brier_score_loss(gold, p[:, 1]) if labels == 2 else brier_score_loss(gold, p, labels=range(labels), scale_by_half=False)
        cases.append(dict(
            probabilities=p.tolist(), gold=gold.tolist(), auroc=auroc, brier=brier,
            balanced_accuracy=balanced_accuracy_score(gold, p.argmax(1)),
            calibration=[dict(bins=bins, value=expected_calibration_error(p, gold, bins)) for bins in (7, 15)],
        ))
    return cases


def isotonic():
    """Unsorted, with equal x and with weights."""
    rng = np.random.default_rng(13)
    cases = []
    for n, values in [(30, 1000), (40, 12), (1, 5)]:
        x, weights = rng.integers(0, values, n) / 8, rounded(rng.uniform(0.2, 3.0, n))
        y = rounded(np.log1p(x) + rng.normal(size=n))
        fitted = IsotonicRegression().fit(x, y, sample_weight=weights).predict(x)
        cases.append(dict(x=x.tolist(), y=y.tolist(), weights=weights.tolist(), fitted=fitted.tolist()))
    return cases


if __name__ == "__main__":
    found = dict(logistic=logistic(), tfidf=tfidf(), classification=classification(), isotonic=isotonic())
    (Path(__file__).parent / "scikit.json").write_text(json.dumps(found) + "\n")
