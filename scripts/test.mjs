// `npm test`: checks, unit and integration tests, every benchmark in a tiny size and the demo. `--only checks,tests,…` runs a part.
// Ends with a line "N passed, N failed, N skipped".
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { projectEnvironment, root } from "./node24.mjs";
import { setup } from "./setup.mjs";

const totals = { passed: 0, failed: 0, skipped: 0 };
const failures = [];
const scratch = mkdtempSync(join(tmpdir(), "estargz-test-"));

function say(text) {
  process.stdout.write(`${text}\n`);
}

function seconds(since) {
  return `${((Date.now() - since) / 1000).toFixed(1)} s`;
}

/** Runs one command as one test. */
function runOne(name, command, args) {
  const started = Date.now();
  const result = spawnSync(command, args, {
    cwd: root,
    env: projectEnvironment(),
    encoding: "utf8",
    maxBuffer: 1 << 28,
    stdio: ["ignore", "pipe", "pipe"],
  });
  if (result.status === 0) {
    totals.passed += 1;
    say(`ok   ${name} (${seconds(started)})`);
    return;
  }
  totals.failed += 1;
  failures.push(name);
  say(`FAIL ${name} (${seconds(started)})\n${result.stdout ?? ""}\n${result.stderr ?? ""}`);
}

function checks() {
  runOne("lint, format, types, unused, packages", "turbo", ["run", "check", "--output-logs=errors-only", "--continue"]);
}

function tests() {
  for (const project of ["unit", "integration"]) {
    const report = join(scratch, `${project}.json`);
    const args = ["run", "--project", project, "--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
    const result = spawnSync("vitest", args, {
      cwd: root,
      env: projectEnvironment({ NO_COLOR: "1" }),
      stdio: ["ignore", "inherit", "inherit"],
    });
    if (!existsSync(report)) {
      totals.failed += 1;
      failures.push(`${project} tests ended without a report (${result.signal ?? `exit code ${result.status}`})`);
      continue;
    }
    const counts = JSON.parse(readFileSync(report, "utf8"));
    totals.passed += counts.numPassedTests;
    totals.failed += counts.numFailedTests;
    totals.skipped += counts.numPendingTests + counts.numTodoTests;
    const failed = counts.testResults.filter((file) => file.status === "failed");
    for (const file of failed) {
      const names = file.assertionResults.filter((test) => test.status === "failed").map((test) => test.fullName);
      failures.push(...(names.length > 0 ? names : [`${file.name}: ${file.message}`]).map((text) => `${project}: ${text}`));
      if (names.length === 0) totals.failed += 1;
    }
    if (result.status !== 0 && failed.length === 0) {
      totals.failed += 1;
      failures.push(`${project} tests ended with ${result.signal ?? `exit code ${result.status}`} (an error outside of a test)`);
    }
  }
}

function benchmarks() {
  for (const name of readdirSync(join(root, "benchmarks")).sort()) {
    if (!existsSync(join(root, "benchmarks", name, "package.json"))) continue;
    runOne(`benchmark ${name}, tiny`, "pnpm", ["--dir", join(root, "benchmarks", name), "run", "tiny"]);
  }
}

/** Mounts of ours that this run has made and not taken away. */
function ownMounts() {
  if (!existsSync("/proc/mounts")) return [];
  const lines = readFileSync("/proc/mounts", "utf8").split("\n");
  return lines.filter((line) => line.includes("estargz")).map((line) => line.split(" ")[1]);
}

function leftovers(before) {
  const left = ownMounts().filter((mount) => !before.includes(mount));
  if (left.length === 0) {
    totals.passed += 1;
    say("ok   no mount is left behind");
    return;
  }
  totals.failed += 1;
  failures.push(`mounts were left behind: ${left.join(" ")}`);
}

function demo() {
  runOne("demo, small", "node", [join(root, "scripts", "demo.mjs"), "--small"]);
}

const parts = { checks, tests, benchmarks, demo };
const only = process.argv.includes("--only") ? process.argv[process.argv.indexOf("--only") + 1].split(",") : Object.keys(parts);
const mountsBefore = ownMounts();
try {
  setup();
  for (const part of only) {
    const started = Date.now();
    say(`\n== ${part}`);
    parts[part]();
    say(`== ${part}: ${seconds(started)}`);
  }
  leftovers(mountsBefore);
} catch (error) {
  totals.failed += 1;
  failures.push(error.message);
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
if (failures.length > 0) say(`\nfailed:\n${failures.map((text) => `  ${text}`).join("\n")}\n`);
say(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exitCode = totals.failed === 0 ? 0 : 1;
