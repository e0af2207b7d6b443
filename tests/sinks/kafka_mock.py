"""A cluster of Kafka brokers in a process of its own: librdkafka's, which it brings for its own tests.

It listens on real ports and speaks the real protocol, keeps what it is given in memory, and fails as it is told to. Prints
its address; then does what each line of standard input says, and prints 0 when that is done.
"""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka

_PRODUCER = 0
_REQUESTS = {"Produce": 0, "Metadata": 3, "InitProducerId": 22}
[_FILE] = Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*.so*")
_LIBRARY = ctypes.CDLL(str(_FILE))


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    function = _LIBRARY[name]
    function.restype, function.argtypes = result, arguments
    return function


_POINTER, _INT, _TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
_conf = _function("rd_kafka_conf_new", _POINTER)
_client = _function("rd_kafka_new", _POINTER, _INT, _POINTER, _TEXT, ctypes.c_size_t)
_cluster = _function("rd_kafka_mock_cluster_new", _POINTER, _POINTER, _INT)
_address = _function("rd_kafka_mock_cluster_bootstraps", _TEXT, _POINTER)
_topic = _function("rd_kafka_mock_topic_create", _INT, _POINTER, _TEXT, _INT, _INT)
_topic_error = _function("rd_kafka_mock_topic_set_error", None, _POINTER, _TEXT, _INT)
_down = _function("rd_kafka_mock_broker_set_down", _INT, _POINTER, _INT)
_up = _function("rd_kafka_mock_broker_set_up", _INT, _POINTER, _INT)
_slow = _function("rd_kafka_mock_broker_set_rtt", _INT, _POINTER, _INT, _INT)
_advertise = _function("rd_kafka_mock_broker_set_host_port", _INT, _POINTER, _INT, _TEXT, _INT)
_errors = _function(
    "rd_kafka_mock_push_request_errors_array", None, _POINTER, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(_INT)
)


def main(brokers: int) -> None:
    """Serves until standard input ends."""
    cluster = _cluster(_client(_PRODUCER, _conf(), ctypes.create_string_buffer(512), 512), brokers)
    _say(_address(cluster).decode())
    for line in sys.stdin:
        word, *rest = line.split()
        _do(cluster, word, rest)
        _say("0")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _do(cluster: int, word: str, rest: list[str]) -> None:
    match word:
        case "topic":  # name
            _topic(cluster, rest[0].encode(), 1, 1)
        case "topic-error":  # name, code; 0 ends it
            _topic_error(cluster, rest[0].encode(), int(rest[1]))
        case "errors":  # request, codes: what the next of these requests are answered
            codes = [int(code) for code in rest[1:]]
            _errors(cluster, _REQUESTS[rest[0]], len(codes), (_INT * len(codes))(*codes))
        case "down":
            _down(cluster, 1)
        case "up":
            _up(cluster, 1)
        case "slow":  # milliseconds
            _slow(cluster, 1, int(rest[0]))
        case "advertise":  # port
            _advertise(cluster, 1, b"127.0.0.1", int(rest[0]))
        case _:
            raise ValueError(word)


if __name__ == "__main__":
    main(1)
