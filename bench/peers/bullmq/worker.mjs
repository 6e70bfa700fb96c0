// One worker process: takes a job, renders the letter for its recipient, sends it over a pooled SMTP connection and
// writes one status row. Reports on its output how many jobs are done; begins on a line of input.
import { createInterface } from "node:readline";
import { Worker } from "bullmq";
import Handlebars from "handlebars";
import nodemailer from "nodemailer";
import pg from "pg";
import { connection, say, settings } from "./queue.mjs";

const transport = nodemailer.createTransport({
  host: "127.0.0.1",
  port: settings.smtp_port,
  secure: false,
  ignoreTLS: true,
  pool: true,
  maxConnections: settings.smtp_connections,
  maxMessages: Infinity,
});

const INSERT = {
  name: "status",
  text: "INSERT INTO deliveries (message_id, address, status, provider_id, sent_at) VALUES ($1, $2, 'sent', $3, now())",
};

// "pool": a client per statement, as pg's manual advises; "pipeline": statements of many jobs share each connection.
async function database() {
  const where = { host: settings.database_host, user: "outrider", database: "outrider" };
  if (settings.pg_mode === "pool") {
    const pool = new pg.Pool({ ...where, max: settings.pg_connections });
    return (values) => pool.query({ ...INSERT, values });
  }
  const clients = [];
  for (let number = 0; number < settings.pg_connections; number++) {
    const client = new pg.Client({ ...where, pipeline: true });
    await client.connect();
    clients.push(client);
  }
  let next = 0;
  return (values) => clients[next++ % clients.length].query({ ...INSERT, values });
}

const [subject, html, text] = [settings.subject, settings.html, settings.text].map((source, part) =>
  Handlebars.compile(source, { noEscape: part !== 1 }),
);
const record = await database();
let done = 0;

const worker = new Worker(
  settings.queue,
  async (job) => {
    const { id, address, variables } = job.data;
    const answer = await transport.sendMail({
      from: settings.sender,
      to: address,
      subject: subject(variables),
      html: html(variables),
      text: text(variables),
      disableFileAccess: true,
      disableUrlAccess: true,
    });
    await record([id, address, answer.response]);
    done += 1;
  },
  { connection: connection(), autorun: false, concurrency: settings.concurrency, removeOnComplete: { count: 0 } },
);
worker.on("failed", (_job, error) => say({ error: String(error) }));
worker.on("error", (error) => say({ error: String(error) }));

await worker.waitUntilReady();
say({ ready: true });
for await (const _line of createInterface({ input: process.stdin })) break;
let reported = 0;
setInterval(() => {
  if (done !== reported) say({ done: (reported = done), memory_bytes: process.memoryUsage.rss() });
}, 20);
await worker.run();
