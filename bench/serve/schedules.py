"""Ten thousand schedules of requests for the batcher, each judged against its solo answers.

Run as ``python -m bench.serve.schedules``; the last line has the figures.
"""

from __future__ import annotations

import argparse

from hypothesis import HealthCheck, Phase, given, settings

from tests.schedules import Schedule, judge, play, schedules


def main() -> None:
    """Play and judge the schedules; a broken promise ends it with a traceback."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    count = parser.parse_args().count
    figures = {"schedules": 0, "requests": 0, "batches": 0}

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(schedules())
    def each(schedule: Schedule) -> None:
        played = play(schedule)
        judge(schedule, played)
        figures["schedules"] += 1
        figures["requests"] += len(schedule.items)
        figures["batches"] += len(played.computed)

    each()
    told = ", ".join(f"{value:,} {name}" for name, value in figures.items())
    print(f"{told}: each answer equals its solo answer, 0 hangs")


if __name__ == "__main__":
    main()
