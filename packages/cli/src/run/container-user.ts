import { EstargzError } from "@estargz/interface";

/** Whom a container's first process runs as. */
export interface ContainerUser {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
}

/** Reads a file of the image, `undefined` when it isn't there. */
export type ReadImageFile = (path: string) => Promise<string | undefined>;

const NUMBER = /^\d{1,10}$/;

function rows(text: string | undefined): string[][] {
  return (text ?? "").split("\n").map((line) => line.split(":"));
}

/**
 * Resolves an image's `User` (`uid`, `name`, `uid:gid`, `name:group`) with the image's own passwd and group files, which are
 * read only when needed.
 *
 * @throws `INVALID_ARGUMENT` for a name the image doesn't know.
 */
export async function resolveUser(user: string, read: ReadImageFile): Promise<ContainerUser> {
  const [name = "", group] = user.split(":");
  if ((name === "" || name === "0" || name === "root") && group === undefined) return { uid: 0, gid: 0, additionalGids: [] };
  if (NUMBER.test(name) && group !== undefined && NUMBER.test(group)) return { uid: Number(name), gid: Number(group), additionalGids: [] };
  const passwd = rows(await read("etc/passwd")).find((row) => (NUMBER.test(name) ? row[2] === name : row[0] === name));
  if (passwd === undefined && !NUMBER.test(name))
    throw new EstargzError("INVALID_ARGUMENT", `the image has no user ${JSON.stringify(name)}`);
  const uid = Number(passwd?.[2] ?? name);
  const groups = rows(await read("etc/group"));
  if (group !== undefined) {
    if (NUMBER.test(group)) return { uid, gid: Number(group), additionalGids: [] };
    const row = groups.find(([groupName]) => groupName === group);
    if (row === undefined) throw new EstargzError("INVALID_ARGUMENT", `the image has no group ${JSON.stringify(group)}`);
    return { uid, gid: Number(row[2]), additionalGids: [] };
  }
  const userName = passwd?.[0] ?? name;
  const additionalGids = groups.filter((row) => (row[3] ?? "").split(",").includes(userName)).map((row) => Number(row[2]));
  return { uid, gid: Number(passwd?.[3] ?? 0), additionalGids };
}
