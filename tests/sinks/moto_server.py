"""moto's server, but that it does not count a queue's messages.

For each message that is put into a FIFO queue it would go through all that are there, six times over. With some thousands, on a
slow machine, it answered too late, was sent the same again, and had more to count.
"""

from moto.server import main
from moto.sqs.models import Queue

for name in ("", "_delayed", "_not_visible"):
    setattr(Queue, f"approximate_number_of_messages{name}", 0)

main()
