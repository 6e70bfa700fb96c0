"""The peer of bench/sms.py: a loop of aiohttp that posts the same texts as fast as it can, and records nothing.

Started as a process: `bare_texts.py BASE_URL ACCOUNT_SID TOKEN TEXTS CALLS`, with so many calls under way at once;
prints `ready:`, waits for a line, posts, and prints the seconds that it took and those of its processor.
"""

from __future__ import annotations

import asyncio
import sys
import time

import aiohttp


async def main(base: str, sid: str, token: str, texts: int, calls: int) -> None:
    """Post them all once."""
    auth = aiohttp.encode_basic_auth(sid, token)
    url = f"{base}/2010-04-01/Accounts/{sid}/Messages.json"
    numbers = iter(range(texts))
    connector = aiohttp.TCPConnector(limit=calls)
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": auth}) as session:

        async def work() -> None:
            for number in numbers:
                form = {
                    "To": f"+1415{number:07}", "From": "+14155550100", "ValidityPeriod": "14400",
                    "Body": f"Recipient {number}, your order A-{number:07} is on its way.",
                    "StatusCallback": f"http://127.0.0.1:1/cb/twilio/{'x' * 64}?m=01890000-0000-7000-8000-{number:012}",
                }  # fmt: skip
                async with session.post(url, data=form) as answer:
                    said = await answer.json()
                    if answer.status != 201 or not said["sid"]:
                        raise RuntimeError(f"{answer.status}: {said}")

        print("ready: here", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        began_s, used_s = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work() for _ in range(calls)))
        print(time.perf_counter() - began_s, time.process_time() - used_s, flush=True)


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
