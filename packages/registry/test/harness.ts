import { createHash } from "node:crypto";
import { type FakeRegistry, type FakeRegistryOptions, startFakeRegistry, testCertificate } from "@estargz/testing";
import { afterEach } from "vitest";
import { createRegistryClient, directHosts, type HostResolver, type RegistryClient, type RegistryClientOptions } from "../src/index.ts";

const cleanups: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** Runs when the test has ended, the last one first. */
export function later(cleanup: () => Promise<void>): void {
  cleanups.push(cleanup);
}

export async function fakeRegistry(options: FakeRegistryOptions = {}): Promise<FakeRegistry> {
  const registry = await startFakeRegistry(options);
  later(() => registry.close());
  return registry;
}

/** A client that repeats at once, so that tests do not wait. */
export function testClient(options: RegistryClientOptions = {}): RegistryClient {
  const client = createRegistryClient({ proxy: "none", retry: { minDelayMs: 1, maxDelayMs: 5 }, ...options });
  later(() => client.close());
  return client;
}

/** Hosts that trust the test certificate. */
export function tlsHosts(resolver: HostResolver = directHosts()): HostResolver {
  return {
    hosts: async (host) =>
      (await resolver.hosts(host)).map((found) => {
        const url = new URL(found.url);
        url.protocol = "https:";
        return { ...found, url, connection: { ca: [testCertificate.certificate] } };
      }),
  };
}

/** Bytes that look random and are the same at each run. */
export function pattern(length: number, seed: string | number = 0): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0, block = 0; at < length; at += 32, block++) {
    createHash("sha256").update(`${seed}/${block}`).digest().copy(bytes, at);
  }
  return bytes;
}

/** The code of the error that a promise rejects with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "none";
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

/** Waits until a condition holds. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
