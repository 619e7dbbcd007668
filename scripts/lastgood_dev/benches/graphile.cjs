// Works through no-op jobs with graphile-worker, and prints how many a second: from the first job's begin to the last one's end.
//
//     node graphile.cjs FOLDER JOBS CONCURRENCY POOL      FOLDER has the package; DATABASE_URL is in the environment
"use strict";

const { createRequire } = require("node:module");
const [folder, jobs, concurrency, maxPoolSize] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const { Logger, run, runMigrations } = createRequire(`${folder}/`)("graphile-worker");
const { Client } = createRequire(`${folder}/`)("pg");

async function main() {
  const connectionString = process.env.DATABASE_URL;
  const logger = new Logger(() => () => {});
  await runMigrations({ connectionString, logger });
  const client = new Client({ connectionString });
  await client.connect();
  await client.query("delete from graphile_worker._private_jobs");
  await client.query("select count(graphile_worker.add_job('noop', '{}'::json)) from generate_series(1, $1)", [jobs]);
  await client.query("vacuum analyze graphile_worker._private_jobs");
  await client.end();
  let began, left = jobs;
  const runner = await run({ connectionString, logger, concurrency, maxPoolSize, noHandleSignals: true, taskList: { noop: async () => {} } });
  runner.events.on("job:start", () => (began ??= process.hrtime.bigint()));
  await new Promise((resolve) => runner.events.on("job:complete", () => --left === 0 && resolve()));
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  await runner.stop();
  console.log(JSON.stringify({ jobs_per_second: jobs / seconds }));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
