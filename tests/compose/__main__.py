"""`python -m penstock.tests.compose`: docker-compose.yml brought up, used, hurt and torn down.

Exit code 0: everything was as it should be. 1: it was not. 2: no Docker to be had here, and the reason;
where CI=true that is 1 too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

from penstock.tests.compose.engine import Engine, EngineMissing, engine
from penstock.tests.compose.images import ROOT, Images
from penstock.tests.compose.progress import Failed, run, say, step
from penstock.tests.compose.scenario import Scenario
from penstock.tests.compose.stack import Stack


def main() -> int:
    """Run it all; returns the exit code."""
    try:
        with engine() as found:
            _test(found)
    except EngineMissing as error:
        say(f"not run: {error}")
        return 1 if os.environ.get("CI") else 2
    except Failed as error:
        say(f"FAILED: {error}")
        return 1
    say("the stack does what it should")
    return 0


def _test(engine: Engine) -> None:
    stack, images = Stack(engine), Images(engine)
    with contextlib.suppress(Failed):
        stack.down()  # what a run that was killed has left
    services = stack.configuration()["services"]
    images.prepare({name: service["image"] for name, service in services.items()})
    say(f"stand-ins: {', '.join(images.stand_ins) or 'none'}; left out: grafana")
    try:
        Scenario(stack).play()
        _broker_of_other_tests()
    except (Failed, KeyboardInterrupt):
        with contextlib.suppress(Failed):
            say(f"what the containers said:\n{stack.logs()}")
        raise
    finally:
        with step("tearing down"):
            stack.down()
            images.tidy()


def _broker_of_other_tests() -> None:
    """The image of Kafka that was just built is one of the ways in which other tests find a broker."""
    test = "tests/integration/test_kafka_support.py::test_a_container_comes_before_jars"
    with step("a broker for other tests, in a container"):
        command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test)
        run(command, cwd=ROOT, env=os.environ | {"PENSTOCK_TEST_CONTAINER": "true"})


def _interrupted(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupted)  # so that everything is torn down then, too
    sys.exit(main())
