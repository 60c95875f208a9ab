import { describe, expect, it } from "vitest";
import { EstargzError, isDigest, isEstargzError, parseDigest } from "../src/index.ts";

describe("EstargzError", () => {
  it("keeps its code, cause and details", () => {
    const cause = new Error("why");
    const error = new EstargzError("NOT_FOUND", "no such blob", { cause, details: { attempt: 2 } });
    expect(error).toMatchObject({ name: "EstargzError", code: "NOT_FOUND", message: "no such blob", cause, details: { attempt: 2 } });
  });

  it("is recognised by code, and across copies of the package", () => {
    const foreign = Object.assign(new Error("x"), { code: "TIMEOUT", [Symbol.for("@estargz/error")]: true });
    expect(isEstargzError(foreign, "TIMEOUT")).toBe(true);
    expect(isEstargzError(foreign, "NOT_FOUND", "CLOSED")).toBe(false);
    expect(isEstargzError(new Error("plain"))).toBe(false);
    expect(isEstargzError(null)).toBe(false);
  });
});

describe("digests", () => {
  it.each([`sha256:${"a".repeat(64)}`, `sha512:${"0".repeat(128)}`])("accepts %s", (text) => {
    expect(parseDigest(text)).toBe(text);
  });

  it.each(["", "sha256:", `sha256:${"A".repeat(64)}`, `sha256:${"a".repeat(63)}`, `md5:${"a".repeat(32)}`, `sha256:${"a".repeat(64)}/..`])(
    "refuses %j",
    (text) => {
      expect(isDigest(text)).toBe(false);
      expect(() => parseDigest(text)).toThrowError(expect.objectContaining({ code: "INVALID_DIGEST" }));
    },
  );
});
