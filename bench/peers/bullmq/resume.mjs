// Lets the paused queue go.
import { Queue } from "bullmq";
import { connection, say, settings } from "./queue.mjs";

await new Queue(settings.queue, { connection: connection() }).resume();
say({ resumed: true });
process.exit(0);
