"""What the user holds of calls: a `Result` of one, a `MapResult` of a map, a `Stream` of many.

Outcomes arrive packed, in the crank's thread. They are unpacked in the thread that asks, once; an error while
unpacking belongs to that call and that asker.
"""

from procoro.results.mapresult import MapResult
from procoro.results.result import Result
from procoro.results.stream import Stream

__all__ = ["MapResult", "Result", "Stream"]
