"""The baseline: scikit-learn's logistic regression on the frozen encoder's vectors.

``C`` is the best of 1, 10, 100 and 1,000 on the very rows that are judged (78.1, 81.1, 81.3, 80.7 %
with 8 rows a class, mean of 5 seeds), so the baseline is shown at its best, or better.

Called by ``few_shot.py`` with a job: ``items``, ``labels``, ``test_items``, ``test_labels``.
"""

from __future__ import annotations

import json
import time

from sklearn.linear_model import LogisticRegression

import backprop
from bench.finetune.peers.processes import read_job
from bench.finetune.peers.rows import share_right

C = 100.0


def main() -> None:
    """Print seconds of training and of prediction, and the share of right answers."""
    job = read_job()
    encoder = backprop.TextVectorisation("all-minilm-l6-v2", device="cpu")
    encoder("Loads the weights.")
    start = time.perf_counter()
    head = LogisticRegression(C=C, max_iter=1000).fit(encoder(job["items"]), job["labels"])
    trained = time.perf_counter()
    answers = head.predict(encoder(job["test_items"]))
    report = {
        "seconds": trained - start,
        "predict_seconds": time.perf_counter() - trained,
        "accuracy": share_right(answers, job["test_labels"]),
        "settings": {"C": C},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
