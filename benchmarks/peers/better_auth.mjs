// better-auth on Node.js, two processes: `get-session` with a bearer token.

import cluster from "node:cluster";
import http from "node:http";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { bearer } from "better-auth/plugins";
import pg from "pg";

const port = Number(process.env.PORT);
const options = {
  baseURL: `http://127.0.0.1:${port}`,
  secret: "a secret of the benchmark, long enough for SHA-256",
  database: new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 }),
  emailAndPassword: { enabled: true },
  plugins: [bearer()],
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  logger: { disabled: true },
};

if (cluster.isPrimary) {
  await (await getMigrations(options)).runMigrations();
  for (let worker = 0; worker < 2; worker += 1) cluster.fork();
} else {
  http.createServer(toNodeHandler(betterAuth(options))).listen(port, "127.0.0.1");
}
