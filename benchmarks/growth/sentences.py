"""What is to be seen in a plot, in words that are made from its figures."""

from collections.abc import Sequence

from benchmarks.compare.table import number
from benchmarks.growth.lines import Lines, Point

UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
SIZES = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def of_workers(lines: Lines) -> str:
    return "  ".join(_workers(system, line) for system, line in lines.items())


def _workers(system: str, line: Sequence[Point]) -> str:
    first, last, best = line[0], line[-1], max(line, key=lambda point: point["rate"])
    return (
        f"{system} is fastest with {best['x']:g} workers ({number(best['rate'])} calls/s). With {last['x']:g} it has "
        f"x {last['rate'] / best['rate']:.2f} of that, and a call costs the parent {number(last['parent_cpu_us'])} µs, "
        f"in place of {number(first['parent_cpu_us'])} with {first['x']:g}."
    )


def of_runtime(lines: Lines) -> str:
    return "  ".join(_runtime(system, line) for system, line in lines.items())


def _runtime(system: str, line: Sequence[Point]) -> str:
    ahead = next((at for at, point in enumerate(line) if all(one["speedup"] > 1 for one in line[at:])), None)
    if ahead is None:
        return f"{system} does not overtake the loop here."
    least, best = line[0], max(line, key=lambda point: point["speedup"])
    begin = "for all of these calls" if ahead == 0 else f"from calls of {_seconds(line[ahead]['x'])} on"
    return (
        f"{system} is ahead of a plain loop {begin}, at {_seconds(best['x'])} by x {best['speedup']:.2f}; at "
        f"{_seconds(least['x'])} it has x {number(least['speedup'])} of the loop's speed."
    )


def of_payload(lines: Lines) -> str:
    return "  ".join(_payload(system, line) for system, line in lines.items())


def _payload(system: str, line: Sequence[Point]) -> str:
    best = max(line, key=lambda point: point["gb_s"])
    twice = next((point for point in line if point["call_us"] > 2 * line[0]["call_us"]), line[-1])
    return (
        f"{system} carries at most {number(best['gb_s'])} GB/s each way, at {_size(best['x'])}, and "
        f"{number(line[-1]['gb_s'])} at {_size(line[-1]['x'])}; a call costs {number(line[0]['call_us'])} µs when it "
        f"carries {_size(line[0]['x'])}, and more than twice that from {_size(twice['x'])} on."
    )


def of_streams(lines: Lines) -> str:
    return "  ".join(_streams(system, line) for system, line in lines.items())


def _streams(system: str, line: Sequence[Point]) -> str:
    first, last = line[0], line[-1]
    return (
        f"{system} runs {last['x']:g} streams at {last['rate'] / first['rate']:.2f} of the rate of one "
        f"({number(last['rate'])} calls/s); the first of them was over after {number(last['fairness'])} of the time."
    )


def of_endless(lines: Lines) -> str:
    return "  ".join(_endless(system, line) for system, line in lines.items())


def _endless(system: str, line: Sequence[Point]) -> str:
    tenth = max(1, len(line) // 10)
    early, late = line[tenth : 2 * tenth], line[-tenth:]
    rates = [sum(point["rate"] for point in part) / len(part) for part in (early, late)]
    sizes = [sum(point["mib"] for point in part) / len(part) for part in (early, late)]
    return (
        f"{system}: in the last tenth of {number(line[-1]['x'])} calls the rate is x {rates[1] / rates[0]:.2f} that "
        f"of the second ({number(rates[0])} calls/s), and all processes hold {sizes[1] - sizes[0]:+.1f} MiB beside "
        f"{number(sizes[0])}."
    )


def _seconds(value: float) -> str:
    unit, scale = next((one for one in UNITS if value >= one[1] * 0.999), UNITS[-1])
    return f"{value / scale:g} {unit}"


def _size(value: float) -> str:
    for unit, scale in SIZES:
        if value >= scale:
            return f"{value / scale:g} {unit}"
    return f"{value:g} B"
