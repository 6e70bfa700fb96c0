// Puts a mailing into the queue with addBulk, BullMQ's own way to add many; the queue is paused until the run begins.
import { Queue } from "bullmq";
import { connection, say, settings } from "./queue.mjs";

const queue = new Queue(settings.queue, { connection: connection() });
await queue.obliterate({ force: true }).catch(() => {});
await queue.pause();
const options = { removeOnComplete: true, removeOnFail: false };
const began = performance.now();
let batch = [];
for (let number = 0; number < settings.messages; number++) {
  const city = settings.cities[number % settings.cities.length];
  const data = {
    id: number,
    address: `user${number}@recipient.example`,
    variables: { name: `Recipient ${number}`, order: `A-${String(number).padStart(7, "0")}`, city },
  };
  batch.push({ name: "send", data, opts: options });
  if (batch.length === settings.batch || number === settings.messages - 1) {
    await queue.addBulk(batch);
    batch = [];
  }
}
const took_s = (performance.now() - began) / 1000;
say({ took_s, waiting: await queue.getJobCountByTypes("wait", "paused") });
process.exit(0);
