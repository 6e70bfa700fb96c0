// What both sides of the peer share: the connection to Redis and the settings handed over by the benchmark.
import Redis from "ioredis";

export const settings = JSON.parse(process.argv[2]);

export function connection() {
  return new Redis({
    host: "127.0.0.1",
    port: settings.redis_port,
    maxRetriesPerRequest: null,
    enableAutoPipelining: settings.auto_pipelining ?? false,
  });
}

export const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");

// The clock of the whole machine, finer than a millisecond, so that two processes' times can be compared.
export const now_ms = () => performance.timeOrigin + performance.now();
