"""Makes interval.json: the interval of the mean of a small table (draws, rows), from its analysis of variance.

    pip install numpy scipy && python interval.py

The critical value is the mean of Satterthwaite's (1946) and Cochran's (1964).
"""

import json
from pathlib import Path

import numpy as np
from scipy import stats

values = np.round(np.random.default_rng(3).normal(size=(4, 7)) + np.linspace(-1, 1, 4)[:, None] + np.linspace(-2, 2, 7), 6)
draws, rows = values.shape
grand = values.mean()
residual = values - values.mean(0) - values.mean(1)[:, None] + grand
ms_draws = rows * values.mean(1).var(ddof=1)
ms_rows = draws * values.mean(0).var(ddof=1)
ms_rest = (residual**2).sum() / (draws - 1) / (rows - 1)
of_draws, of_rows = ms_draws / draws / rows, max(ms_rows - ms_rest, 0) / draws / rows
variance = of_draws + of_rows
freedom = variance**2 / (of_draws**2 / (draws - 1) + of_rows**2 / (rows - 1))
cochran = (of_draws * stats.t.ppf(0.975, draws - 1) + of_rows * stats.t.ppf(0.975, rows - 1)) / variance
half = (stats.t.ppf(0.975, freedom) + cochran) / 2 * variance**0.5
out = dict(values=values.tolist(), mean=grand, low=grand - half, high=grand + half)
Path(__file__).with_suffix(".json").write_text(json.dumps(out, indent=1) + "\n")
