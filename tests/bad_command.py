"""A command that fails in each way that benchmarks/hostile looks for."""

import os
import signal
import sys
import time


def main(words: list[str]) -> None:
    match words[0]:
        case "raise":
            raise KeyError("a")
        case "wait":
            time.sleep(600)
        case "spin":
            while True:
                pass
        case "start":
            os.system("sleep 600")
        case "fill":
            filled = bytearray(b"a") * (350 << 20)
            time.sleep(len(filled))
        case "ask":
            bytearray(8 << 30)
        case "kill":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "lines":
            sys.exit("error: one\nerror: two")
        case "escape":
            print("\x1b[31m")
        case "stop":
            try:
                time.sleep(600)
            except KeyboardInterrupt:
                sys.exit(130)
        case "refuse":
            print("error: no", file=sys.stderr)
            sys.exit(2)
