import { runCommand } from "./containerd.ts";

/** Names of the folders that {@link makePosixTree} makes. */
export interface PosixTree {
  /** The tree as it was unpacked from the tar by GNU tar. */
  readonly unpacked: string;
  readonly tarPath: string;
}

/** Runs a script that must succeed. */
export async function mustRun(script: string): Promise<string> {
  const result = await runCommand("sh", ["-euc", script]);
  if (result.code !== 0) throw new Error(`${script}\n${result.stdout}${result.stderr}`);
  return result.stdout;
}

// Everything that a layer can hold and a POSIX reader can see. Times are whole seconds, as a TOC has them.
const TREE = String.raw`
umask 022
mkdir dir dir/sub modes owners times empty-dir
printf 'plain text\n' >plain
: >empty
head -c 1 /dev/zero >one
seq 1 300000 >numbers
head -c 9500000 /dev/urandom >big
head -c 4194304 /dev/urandom >exactly-4-mib
head -c 65536 /dev/urandom >exactly-64-kib
truncate -s 3000000 sparse && printf x | dd of=sparse bs=1 seek=2000000 conv=notrunc 2>/dev/null
ln -s plain link
ln -s absent dangling
ln -s loop loop
ln -s "$(printf 'x%.0s' $(seq 1 4000))" long-target
ln -s dir link-to-dir
ln plain hard-1 && ln plain dir/hard-2
ln numbers dir/sub/numbers-again
mkfifo fifo
mknod char c 1 3
mknod block b 259 70000
for mode in 0000 0001 0444 0755 1777 2755 4755 6711; do : >modes/f$mode; chmod $mode modes/f$mode; done
mkdir modes/d1777 modes/d2755 modes/d0700 && chmod 1777 modes/d1777 && chmod 2755 modes/d2755 && chmod 0700 modes/d0700
: >owners/a && chown 1000:1000 owners/a
: >owners/b && chown 65534:7 owners/b
: >owners/c && chown 4000000000:3000000000 owners/c
ln -s a owners/l && chown -h 5:6 owners/l
: >times/old && touch -d '1970-01-01T00:00:00Z' times/old
: >times/before && touch -d '1955-03-04T05:06:07Z' times/before
: >times/late && touch -d '2100-12-31T23:59:59Z' times/late
: >'with space' && : >'ümläut-日本語' && printf 'n' >"$(printf 'new\nline')" && : >'back\slash' && : >'-dash' && : >'star*?[' && : >.hidden
: >"$(printf 'n%.0s' $(seq 1 255))"
mkdir many && (cd many && seq -f 'entry-%05g' 1 5000 | xargs touch)
d=deep; for i in $(seq 1 128); do d=$d/level; done; mkdir -p $d && printf 'at the bottom' >$d/file
chmod 0711 . && find . -exec touch -h -d '2021-02-03T04:05:06Z' {} + 
touch -d '1970-01-01T00:00:00Z' times/old && touch -d '1955-03-04T05:06:07Z' times/before && touch -d '2100-12-31T23:59:59Z' times/late
touch -d '1999-09-09T09:09:09Z' times
`;

const XATTRS = String.raw`
setfattr -n user.text -v hello plain
setfattr -n user.empty dir
setfattr -n user.bytes -v 0x00ff10 numbers
setfattr -n user.long -v "$(printf 'y%.0s' $(seq 1 2000))" empty
for i in $(seq 1 20); do setfattr -n user.n$i -v $i one; done
setfattr -n trusted.secret -v t dir/sub
setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 big
`;

/** Makes the tree, its tar, and what GNU tar makes of that tar. */
export async function makePosixTree(folder: string, xattrs: boolean): Promise<PosixTree> {
  const [made, unpacked, tarPath] = [`${folder}/made`, `${folder}/unpacked`, `${folder}/tree.tar`];
  await mustRun(`mkdir ${made} ${unpacked} && cd ${made}\n${TREE}`);
  if (xattrs) await mustRun(`cd ${made}\n${XATTRS}\nfind . -exec touch -h -r plain {} + ; touch -d '1999-09-09T09:09:09Z' times`);
  await mustRun(`tar --format=pax --sort=name --numeric-owner --xattrs --xattrs-include='*' -cf ${tarPath} -C ${made} .`);
  await mustRun(`tar --numeric-owner --same-owner --xattrs --xattrs-include='*' -xpf ${tarPath} -C ${unpacked}`);
  return { unpacked, tarPath };
}

/** Makes a tar with one directory of very many names. */
export async function makeHugeDirectory(folder: string, entries: number): Promise<PosixTree> {
  const [unpacked, tarPath] = [`${folder}/huge`, `${folder}/huge.tar`];
  await mustRun(`mkdir -p ${unpacked}/d && cd ${unpacked}/d && seq -f 'entry-%06g' 1 ${entries} | xargs touch -d '2021-02-03T04:05:06Z'`);
  await mustRun(`touch -d '2021-02-03T04:05:06Z' ${unpacked}/d ${unpacked} && tar --format=pax -cf ${tarPath} -C ${unpacked} .`);
  return { unpacked, tarPath };
}
