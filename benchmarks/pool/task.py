"""What one fresh process is asked to measure."""

WORKERS = 2


class Task:
    """`seconds`: what is timed lasts so long, about. `inputs`: a key of `workload.INPUTS`. `most`: no more calls than
    that. `length`: seconds of the long call, where there is one."""

    __slots__ = ("inputs", "length", "most", "seconds")

    def __init__(self, seconds: str, inputs: str = "ints", most: str = "1", length: str = "0") -> None:
        self.seconds = float(seconds)
        self.inputs = inputs
        self.most = int(most)
        self.length = float(length)
