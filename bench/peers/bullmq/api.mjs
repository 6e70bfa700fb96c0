// The peer's door: a plain HTTP server that puts what it is sent into the queue and answers 202 when Redis has it.
import { createServer } from "node:http";
import { Queue } from "bullmq";
import { connection, say, settings } from "./queue.mjs";

const queue = new Queue(settings.queue, { connection: connection() });
await queue.pause();
const options = { removeOnComplete: true, removeOnFail: false };

const server = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", async () => {
    try {
      const body = JSON.parse(Buffer.concat(parts));
      const answer = body.messages
        ? { items: (await queue.addBulk(body.messages.map((data) => ({ name: "send", data, opts: options })))).map(({ id }) => ({ id })) }
        : { id: (await queue.add("send", body, options)).id };
      const text = JSON.stringify(answer);
      response.writeHead(202, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
      response.end(text);
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  });
});
server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
