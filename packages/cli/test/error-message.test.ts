import { EstargzError } from "@estargz/interface";
import { describe, expect, it } from "vitest";
import { describeError } from "../src/error-message.ts";

describe("describeError", () => {
  it("says what to do about a missing image", () => {
    expect(describeError(new EstargzError("NOT_FOUND", "registry.example/app:1 is not known"))).toBe(
      "registry.example/app:1 is not known: check the image's name and tag",
    );
  });

  it("adds the innermost cause, once", () => {
    const connect = new Error("connect ECONNREFUSED 127.0.0.1:1");
    const error = new EstargzError("REGISTRY_UNAVAILABLE", "127.0.0.1:1 did not answer", {
      cause: new TypeError("fetch failed", { cause: connect }),
    });
    expect(describeError(error)).toBe(
      "127.0.0.1:1 did not answer (connect ECONNREFUSED 127.0.0.1:1): check the network and the registry's name; for a registry without TLS add --plain-http",
    );
    const told = new EstargzError("IO_ERROR", "reading failed: connect ECONNREFUSED 127.0.0.1:1", { cause: connect });
    expect(describeError(told)).toBe("reading failed: connect ECONNREFUSED 127.0.0.1:1");
  });

  it("does not repeat a system error that the message tells", () => {
    const cause = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:1"), { code: "ECONNREFUSED" });
    expect(describeError(new EstargzError("IO_ERROR", "127.0.0.1:1 could not be reached: ECONNREFUSED", { cause }))).toBe(
      "127.0.0.1:1 could not be reached: ECONNREFUSED",
    );
  });

  it("gives no hint about the image's name where a path in it is missing", () => {
    expect(describeError(new EstargzError("NOT_FOUND", "the image has no /x", { details: { path: "x" } }))).toBe("the image has no /x");
  });

  it("looks into an aggregate of several hosts", () => {
    const cause = new AggregateError([new Error("mirror.example: 503"), new Error("registry.example: 503")], "all hosts failed");
    expect(describeError(new EstargzError("IO_ERROR", "no host answered", { cause }))).toContain("mirror.example: 503");
  });

  it("is one line whatever is thrown", () => {
    expect(describeError(new Error("first\n  second\nthird"))).toBe("first; second; third");
    expect(describeError("text")).toBe("text");
    expect(describeError(undefined)).toBe("undefined");
    expect(describeError(new RangeError(""))).toBe("RangeError");
  });

  it("names the file of a system error", () => {
    const error = Object.assign(new Error("ENOENT: no such file or directory, open '/x'"), { code: "ENOENT", path: "/x" });
    expect(describeError(error)).toBe("/x: no such file or folder");
  });
});
