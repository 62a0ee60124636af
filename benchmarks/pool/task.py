"""What one fresh process is asked to measure."""

WORKERS = 2


class Task:
    """`inputs`: a key of `workload.INPUTS`. `seconds`: the timed part lasts at least so long, unless it would
    take more than `most` calls (samples, pairs: whatever the measure counts)."""

    __slots__ = ("inputs", "most", "seconds")

    def __init__(self, inputs: str, seconds: float, most: int) -> None:
        self.inputs = inputs
        self.seconds = seconds
        self.most = most
