// Adds jobs that do nothing: in bulk, by so many callers one at a time, or one every so often.
import { setTimeout as sleep } from "node:timers/promises";
import { Queue } from "bullmq";
import { connection, now_ms, say, settings } from "./queue.mjs";

const queue = new Queue(settings.queue, { connection: connection() });
if (settings.is_first) await queue.obliterate({ force: true }).catch(() => {});
const add = () => queue.add("nothing", { at_ms: now_ms() });
const began_ms = now_ms();
if (settings.batch > 1) {
  for (let first = 0; first < settings.jobs; first += settings.batch) {
    const count = Math.min(settings.batch, settings.jobs - first);
    await queue.addBulk(Array.from({ length: count }, () => ({ name: "nothing", data: { at_ms: now_ms() } })));
  }
} else if (settings.every_ms) {
  for (let number = 0; number < settings.jobs; number++) {
    await add();
    await sleep(settings.every_ms * (0.5 + Math.random()));
  }
} else {
  let left = settings.jobs;
  const caller = async () => {
    while (left-- > 0) await add();
  };
  await Promise.all(Array.from({ length: settings.callers }, caller));
}
say({ took_s: (now_ms() - began_ms) / 1000 });
process.exit(0);
