// One worker process for jobs that do nothing: reports how many are done, and when each began if it is asked to.
// Begins on a line of input.
import { createInterface } from "node:readline";
import { Worker } from "bullmq";
import { connection, now_ms, say, settings } from "./queue.mjs";

let done = 0;
let waits_ms = [];

const worker = new Worker(
  settings.queue,
  async (job) => {
    if (settings.is_timed) waits_ms.push(now_ms() - job.data.at_ms);
    done += 1;
  },
  { connection: connection(), autorun: false, concurrency: settings.concurrency },
);
worker.on("failed", (_job, error) => say({ error: String(error) }));
worker.on("error", (error) => say({ error: String(error) }));

await worker.waitUntilReady();
say({ ready: true });
for await (const _line of createInterface({ input: process.stdin })) break;
let reported = 0;
setInterval(() => {
  if (done === reported) return;
  say({ done: (reported = done), waits_ms });
  waits_ms = [];
}, 10);
await worker.run();
