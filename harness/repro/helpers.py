"""What a script brings along when its scenario needs more than plain calls: source text, written into it as it is."""

from __future__ import annotations

CONCURRENT = '''
# --- calls of an asyncio program: started one after the other, awaited later ---

LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()


class Started:
    """A call that runs as a task; its first synchronous part has run."""

    def __init__(self, call):
        self.task = asyncio.run_coroutine_threadsafe(self._begin(call), LOOP).result()

    async def _begin(self, call):
        task = asyncio.ensure_future(call())
        await asyncio.sleep(0)
        return task

    def cancel(self):
        LOOP.call_soon_threadsafe(self._cancel)

    def _cancel(self):
        if not self.task.done():
            self.task.cancel()
        elif not self.task.cancelled() and self.task.exception() is None:
            running = self.task.result()  # a future, which newer releases return at once
            (running if hasattr(running, "cancel") else running.future()).cancel()

    def result(self):
        return asyncio.run_coroutine_threadsafe(self._wait(), LOOP).result()

    async def _wait(self):
        return await (await self.task)
'''

THREADED = '''
# --- calls from a thread per training client: one after the other there ---

THREADS = {}


class Threaded:
    """A call that is made by the thread of its client."""

    def __init__(self, client, call):
        if client not in THREADS:
            THREADS[client] = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self.call = THREADS[client].submit(call)

    def cancel(self):
        return self.call.cancel() or (self.call.done() and self.call.result().future().cancel())

    def result(self):
        return self.call.result().result()
'''

CANCEL = '''

def cancel(step):
    """Cancel a call that was made and not waited for."""
    if step in RUNNING:
        running = RUNNING[step]
        (running if hasattr(running, "cancel") else running.future()).cancel()
'''

DRAWN = '''
# --- numbers drawn as the suite draws them: the same everywhere ---

WORD = (1 << 64) - 1


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) & WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def below(n, seed, stream, index, count):
    """Draw `count` whole numbers in [0, n) for the datum at `index`."""
    start = mix((mix((mix(seed) + stream) & WORD) + index) & WORD)
    return [((mix((start + k) & WORD) >> 32) * n) >> 32 for k in range(count)]
'''
