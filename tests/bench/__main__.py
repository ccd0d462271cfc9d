"""`make bench`: every benchmark in turn, one line of JSON each."""

import asyncio
import json
import sys

from tests.bench import generate

if __name__ == "__main__":
    for result in asyncio.run(generate.measure()):
        sys.stdout.write(json.dumps(result) + "\n")
