import { describe, expect, it } from "vitest";
import { resolveUser } from "../src/run/container-user.ts";
import { parseImageConfig } from "../src/run/image-config.ts";
import { createRuntimeSpec, processArguments } from "../src/run/runtime-spec.ts";

const config = parseImageConfig({ config: { Entrypoint: ["/entry"], Cmd: ["serve"], Env: ["A=1", "B=2"], WorkingDir: "/srv" } });

describe("processArguments", () => {
  it.each([
    ["the image's own", {}, ["/entry", "serve"]],
    ["a command in place of the image's", { command: ["sh", "-c", "true"] }, ["/entry", "sh", "-c", "true"]],
    ["an entrypoint takes the image's command away too", { entrypoint: ["/bin/sh"] }, ["/bin/sh"]],
    ["both", { entrypoint: ["/bin/sh"], command: ["-x"] }, ["/bin/sh", "-x"]],
  ])("%s", (_name, options, expected) => {
    expect(processArguments(config, options)).toEqual(expected);
  });

  it("says what to do when there is nothing to run", () => {
    const empty = parseImageConfig({});
    expect(() => processArguments(empty, {})).toThrow("the image names no command: say what to run after its name");
  });
});

describe("createRuntimeSpec", () => {
  it("lets the caller's environment win and keeps the image's folder", () => {
    const spec = createRuntimeSpec(config, {
      rootPath: "/r",
      user: { uid: 1, gid: 2, additionalGids: [] },
      environment: ["B=3", "C=4=5"],
      hostname: "h",
      terminal: false,
      network: "none",
      binds: [{ source: "/a", destination: "/b", readOnly: true }],
      readOnly: false,
    });
    expect(spec).toMatchObject({
      process: { cwd: "/srv", user: { uid: 1, gid: 2 }, env: expect.arrayContaining(["A=1", "B=3", "C=4=5", "HOSTNAME=h"]) },
      mounts: expect.arrayContaining([{ destination: "/b", type: "bind", source: "/a", options: ["rbind", "rprivate", "ro"] }]),
      linux: { namespaces: expect.arrayContaining([{ type: "network" }]) },
    });
  });
});

describe("resolveUser", () => {
  const files: Record<string, string> = {
    "etc/passwd": "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n",
    "etc/group": "root:x:0:\napp:x:1001:\nweb:x:33:app,other\n",
  };
  const read = (path: string): Promise<string | undefined> => Promise.resolve(files[path]);

  it.each([
    ["", { uid: 0, gid: 0, additionalGids: [] }],
    ["app", { uid: 1000, gid: 1001, additionalGids: [33] }],
    ["1000", { uid: 1000, gid: 1001, additionalGids: [33] }],
    ["4711", { uid: 4711, gid: 0, additionalGids: [] }],
    ["7:8", { uid: 7, gid: 8, additionalGids: [] }],
    ["app:web", { uid: 1000, gid: 33, additionalGids: [] }],
  ])("understands %j", async (user, expected) => {
    expect(await resolveUser(user, read)).toEqual(expected);
  });

  it("refuses names the image does not know", async () => {
    await expect(resolveUser("nobody", read)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(resolveUser("app:nogroup", read)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});
