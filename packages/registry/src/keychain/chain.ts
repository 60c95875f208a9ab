import { type Keychain, type Logger, noLogger } from "@estargz/interface";

/**
 * Asks keychains in order; the first that has credentials wins. One that fails is logged and passed over.
 */
export function chainKeychain(keychains: readonly Keychain[], options: { readonly logger?: Logger | undefined } = {}): Keychain {
  const { logger = noLogger } = options;
  return {
    resolve: async (request, { signal } = {}) => {
      for (const [index, keychain] of keychains.entries()) {
        signal?.throwIfAborted();
        try {
          const credentials = await keychain.resolve(request, { signal });
          if (credentials !== undefined) return credentials;
        } catch (error) {
          signal?.throwIfAborted();
          const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
          logger.warn({ host: request.origin, keychain: index, code }, "a keychain failed; the next one is asked");
        }
      }
      return undefined;
    },
  };
}
