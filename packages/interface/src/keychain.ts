/** What credentials are wanted for. */
export interface KeychainRequest {
  /** Scheme, host and port, like `https://registry.example:5000`. */
  readonly origin: string;
  /** Repository in the registry, like `library/node`. */
  readonly repository?: string | undefined;
  /** The whole reference that a read is done for. */
  readonly reference?: string | undefined;
}

/** Credentials of one origin. */
export type Credentials =
  | { readonly type: "basic"; readonly username: string; readonly password: string; readonly expiresAtMs?: number | undefined }
  | { readonly type: "identity-token"; readonly token: string; readonly expiresAtMs?: number | undefined }
  | { readonly type: "registry-token"; readonly token: string; readonly expiresAtMs?: number | undefined };

/** A place that credentials come from. Asked again each time they are needed or have expired. */
export interface Keychain {
  /** Gives credentials for an origin, or `undefined` if it has none. */
  resolve(request: KeychainRequest, options?: { readonly signal?: AbortSignal | undefined }): Promise<Credentials | undefined>;
}
