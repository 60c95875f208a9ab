import type { Credentials, Keychain } from "@estargz/interface";
import { afterEach, describe, expect, test } from "vitest";

/** A keychain under test, with what it should know. */
export interface KeychainUnderTest {
  readonly keychain: Keychain;
  /** The only origin that it has credentials for. */
  readonly origin: string;
  readonly credentials: Credentials;
  close?(): Promise<void>;
}

/** Options of {@link keychainSuite}. */
export interface KeychainSuiteOptions {
  /** Makes a keychain that has credentials for one origin. */
  setup(): Promise<KeychainUnderTest>;
}

/** Origins that look like another one and are not. */
function strangers(origin: string): string[] {
  const { protocol, hostname, host } = new URL(origin);
  return [
    "https://registry.invalid",
    `${protocol}//${hostname}:9`,
    `${protocol}//evil-${host}`,
    `${protocol}//sub.${host}`,
    `${protocol}//${hostname}.evil.example`,
    `${protocol}//evil.example/${host}`.replace(/\/[^/]*$/, ""),
  ];
}

/** What every {@link Keychain} promises. */
export function keychainSuite(name: string, options: KeychainSuiteOptions): void {
  describe(`${name} as a keychain`, () => {
    const open: KeychainUnderTest[] = [];
    const setup = async (): Promise<KeychainUnderTest> => {
      const made = await options.setup();
      open.push(made);
      return made;
    };
    afterEach(async () => {
      for (const made of open.splice(0)) await made.close?.();
    });

    test("gives the credentials of its origin, whatever the repository", async () => {
      const { keychain, origin, credentials } = await setup();
      expect(await keychain.resolve({ origin })).toMatchObject(credentials);
      expect(await keychain.resolve({ origin, repository: "team/app", reference: `${new URL(origin).host}/team/app:1` })).toMatchObject(
        credentials,
      );
    });

    test("gives nothing for any other origin", async () => {
      const { keychain, origin } = await setup();
      for (const stranger of strangers(origin)) expect(await keychain.resolve({ origin: stranger })).toBeUndefined();
    });

    test("answers every time it is asked, also at the same time", async () => {
      const { keychain, origin, credentials } = await setup();
      const all = await Promise.all([1, 2, 3, 4].map(() => keychain.resolve({ origin })));
      for (const one of all) expect(one).toMatchObject(credentials);
    });

    test("rejects with the reason of a signal, or answers all the same", async () => {
      const { keychain, origin, credentials } = await setup();
      const reason = new Error("left");
      const outcome = await keychain.resolve({ origin }, { signal: AbortSignal.abort(reason) }).catch((error: unknown) => error);
      if (outcome !== reason) expect(outcome).toMatchObject(credentials);
    });
  });
}
