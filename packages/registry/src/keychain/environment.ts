import type { Keychain } from "@estargz/interface";
import { findInDockerConfig, parseDockerConfig } from "./docker-config.ts";
import { originOf } from "./static.ts";

/**
 * Credentials from environment variables: `DOCKER_AUTH_CONFIG` with the content of a config.json, as GitLab CI has it;
 * or `ESTARGZ_REGISTRY` (a host, required, so that they go nowhere else) with `ESTARGZ_USERNAME` and `ESTARGZ_PASSWORD`,
 * or with `ESTARGZ_TOKEN`, an identity token.
 */
export function environmentKeychain(env: Readonly<Record<string, string | undefined>> = process.env): Keychain {
  return {
    resolve: async (request) => {
      const config = env["DOCKER_AUTH_CONFIG"];
      if (config) {
        const credentials = findInDockerConfig(parseDockerConfig(config, "DOCKER_AUTH_CONFIG"), request, "DOCKER_AUTH_CONFIG");
        if (credentials !== undefined) return credentials;
      }
      const host = env["ESTARGZ_REGISTRY"];
      if (!host || originOf(host) !== request.origin) return undefined;
      const token = env["ESTARGZ_TOKEN"];
      if (token) return { type: "identity-token", token };
      const username = env["ESTARGZ_USERNAME"];
      const password = env["ESTARGZ_PASSWORD"];
      return username && password !== undefined ? { type: "basic", username, password } : undefined;
    },
  };
}
