// The connection that reads plain http straight into its place, against servers that answer byte by byte as told.

import type { AddressInfo } from "node:net";
import { createServer, type Socket } from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ChunkedDecoder } from "../src/http/chunked.ts";
import { DirectPool } from "../src/http/direct-pool.ts";
import { type Accept, type BodySink, collect, type ExchangeRequest } from "../src/http/exchange.ts";
import { parseHead } from "../src/http/response-head.ts";
import { codeOf, later, until } from "./harness.ts";

interface Server {
  readonly port: number;
  readonly connections: Socket[];
  readonly requests: string[];
}

/** A server that hands each request's connection to `answer`. */
async function serve(answer: (socket: Socket, count: number) => void): Promise<Server> {
  const connections: Socket[] = [];
  const requests: string[] = [];
  const server = createServer((socket) => {
    connections.push(socket);
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      requests.push(bytes.toString("latin1"));
      answer(socket, requests.length);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  later(async () => {
    for (const socket of connections) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return { port: (server.address() as AddressInfo).port, connections, requests };
}

function poolOf({ port }: Server): DirectPool {
  const pool = new DirectPool({ host: "127.0.0.1", port, connectTimeoutMs: 5000, lookup: undefined });
  later(async () => pool.close());
  return pool;
}

const request = (server: Server, extra: Partial<ExchangeRequest> = {}): ExchangeRequest => ({
  origin: `http://127.0.0.1:${server.port}`,
  path: "/x",
  method: "GET",
  headers: {},
  headersTimeoutMs: 5000,
  bodyTimeoutMs: 5000,
  signal: undefined,
  ...extra,
});
const all: Accept<Buffer> = ({ status }) => (status === 200 ? collect(1e7, () => new Error("large")) : undefined);

async function textOf(pool: DirectPool, server: Server, extra: Partial<ExchangeRequest> = {}): Promise<string> {
  const outcome = await pool.exchange(request(server, extra), all);
  return outcome.accepted ? outcome.value.toString() : `refused ${outcome.head.status} ${Buffer.from(outcome.body).toString()}`;
}

describe("answers", () => {
  test.each([
    ["with a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"],
    ["with a length said twice", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\nhello", "hello"],
    ["in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: x\r\n\r\n", "hello"],
    [
      "after 100 and 103",
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
      "ok",
    ],
    ["that are empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""],
    ["without a reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "ok"],
    ["that are refused", "HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\ngone", "refused 404 gone"],
    ["204 without a body", "HTTP/1.1 204 No\r\n\r\n", "refused 204 "],
  ])("%s, whole and byte by byte", async (_name, answer, expected) => {
    for (const size of [answer.length, 1, 7]) {
      const server = await serve((socket) => {
        const send = (at: number): void => {
          if (at >= answer.length) return;
          socket.write(answer.slice(at, at + size), "latin1");
          setImmediate(send, at + size);
        };
        send(0);
      });
      const pool = poolOf(server);
      expect(await textOf(pool, server)).toBe(expected);
      expect(await textOf(pool, server)).toBe(expected);
      expect(server.connections).toHaveLength(1);
    }
  });

  test("that end with their connection", async () => {
    const server = await serve((socket) => socket.end("HTTP/1.0 200 OK\r\n\r\nhello"));
    const pool = poolOf(server);
    expect([await textOf(pool, server), await textOf(pool, server)]).toEqual(["hello", "hello"]);
    expect(server.connections).toHaveLength(2);
  });

  test.each([
    ["nonsense", "hello there\r\n\r\n"],
    ["two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"],
    ["a length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"],
    ["an unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"],
    ["a folded field", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n"],
    ["a bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"],
    ["an endless head", `HTTP/1.1 200 OK\r\nA: ${"a".repeat(100_000)}`],
  ])("%s is an error, and the connection is not used again", async (_name, answer) => {
    const server = await serve((socket) => socket.write(answer, "latin1"));
    expect(await codeOf(poolOf(server).exchange(request(server), all))).toBe("ERR_MALFORMED_ANSWER");
    await until(() => server.connections.every(({ destroyed }) => destroyed));
  });

  test("with bytes after them do not give those to the next request", async () => {
    const server = await serve((socket) =>
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
    );
    const pool = poolOf(server);
    expect([await textOf(pool, server), await textOf(pool, server)]).toEqual(["ok", "ok"]);
    expect(server.connections).toHaveLength(2);
  });

  test("that nobody asked for end the connection", async () => {
    const server = await serve((socket) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    const pool = poolOf(server);
    expect(await textOf(pool, server)).toBe("ok");
    server.connections[0]?.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    await until(() => server.connections[0]?.destroyed === true);
    expect(await textOf(pool, server)).toBe("ok");
  });
});

describe("connections", () => {
  test("that the server closed while they were idle cost no error", async () => {
    const server = await serve((socket, count) => {
      if (count === 2 && server.connections.length === 1) socket.destroy();
      else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    const pool = poolOf(server);
    expect([await textOf(pool, server), await textOf(pool, server)]).toEqual(["ok", "ok"]);
    expect(server.requests).toHaveLength(3);
  });

  test("with Connection: close are not kept", async () => {
    const server = await serve((socket) => socket.end("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"));
    const pool = poolOf(server);
    expect([await textOf(pool, server), await textOf(pool, server)]).toEqual(["ok", "ok"]);
    expect(server.connections).toHaveLength(2);
  });

  test("end when an exchange is aborted, refused, late or no longer wanted", async () => {
    const server = await serve((socket) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"));
    const pool = poolOf(server);
    const controller = new AbortController();
    const waiting = pool.exchange(request(server, { signal: controller.signal }), all);
    await until(() => server.requests.length === 1);
    const reason = new Error("left");
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    expect(await codeOf(pool.exchange(request(server, { bodyTimeoutMs: 50 }), all))).toBe("UND_ERR_BODY_TIMEOUT");
    const refuses = (): never => {
      throw new Error("refused");
    };
    await expect(pool.exchange(request(server), refuses)).rejects.toThrow("refused");
    const enough: Accept<string> = () => ({ write: () => true, end: () => "enough" });
    expect(await pool.exchange(request(server), enough)).toMatchObject({ accepted: true, value: "enough" });
    await until(() => server.connections.every(({ destroyed }) => destroyed));
  });

  test("that fall silent after their reader held them back for longer than the deadline end by it all the same", async () => {
    const server = await serve((socket) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"));
    const slow: Accept<string> = (_head, flow) => ({
      write: () => {
        flow.pause();
        setTimeout(() => flow.resume(), 200);
        return false;
      },
      end: () => "whole",
    });
    expect(await codeOf(poolOf(server).exchange(request(server, { bodyTimeoutMs: 50 }), slow))).toBe("UND_ERR_BODY_TIMEOUT");
  });

  test("are bounded by deadlines for the head", async () => {
    const server = await serve(() => {});
    expect(await codeOf(poolOf(server).exchange(request(server, { headersTimeoutMs: 50 }), all))).toBe("UND_ERR_HEADERS_TIMEOUT");
  });

  test("carry no line breaks in header fields", async () => {
    const server = await serve(() => {});
    expect(await codeOf(poolOf(server).exchange(request(server, { headers: { a: "b\r\nc: d" } }), all))).toBe("INVALID_ARGUMENT");
    expect(server.connections).toHaveLength(0);
  });

  test("read into the place that a sink names, and nowhere past the body's end", async () => {
    const body = Buffer.alloc(300_000, 7);
    const server = await serve((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`);
      socket.write(body);
    });
    const place = Buffer.alloc(body.length + 1000);
    let at = 0;
    const sink: BodySink<number> = {
      write(bytes) {
        place.set(bytes, at);
        at += bytes.length;
        return false;
      },
      target: () => place.subarray(at),
      advance(length) {
        at += length;
        return false;
      },
      end: () => at,
    };
    const outcome = await poolOf(server).exchange(request(server), () => sink);
    expect(outcome).toMatchObject({ value: body.length });
    expect(Buffer.compare(place.subarray(0, at), body)).toBe(0);
    expect(place.subarray(at).every((byte) => byte === 0)).toBe(true);
  });
});

test("no text makes the head's parser throw anything but its own error", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string().map((text) => `HTTP/1.1 200 OK\r\n${text}`),
      ),
      (text) => {
        try {
          expect(parseHead(text, "GET").status).toBeGreaterThanOrEqual(0);
        } catch (error) {
          expect(error).toMatchObject({ code: "ERR_MALFORMED_ANSWER" });
        }
      },
    ),
  );
  expect(Object.keys(parseHead("HTTP/1.1 200 OK\r\n__proto__: x\r\nA: 1\r\na: 2", "GET").headers)).toEqual(["a"]);
});

test("chunks are decoded however they are cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 60 }), { maxLength: 8 }),
      fc.integer({ min: 1, max: 40 }),
      (pieces, size) => {
        const coded = Buffer.concat([
          ...pieces.flatMap((piece) => [Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from("\r\n")]),
          Buffer.from("0\r\n\r\nrest"),
        ]);
        const decoder = new ChunkedDecoder();
        const body: Buffer[] = [];
        let used = 0;
        for (let at = 0; at < coded.length && !decoder.done; at += size)
          used += decoder.write(coded.subarray(at, at + size), (piece) => body.push(Buffer.from(piece)));
        expect(decoder.done).toBe(true);
        expect(used).toBe(coded.length - 4);
        expect(Buffer.compare(Buffer.concat(body), Buffer.concat(pieces))).toBe(0);
      },
    ),
  );
});
