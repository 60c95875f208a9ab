import type { ConnectRouter } from "@connectrpc/connect";
import { createClient } from "@connectrpc/connect";
import { ImageService } from "../gen/runtime/v1/api_pb.ts";
import { unixTransport } from "../unix-transport.ts";
import type { CriKeychain } from "./cri-keychain.ts";

/** Options of {@link imageServiceProxy}. */
export interface ImageServiceProxyOptions {
  /** Socket of the real image service. */
  readonly target: string;
  readonly keychain: CriKeychain;
}

/** A proxy of CRI's image service. */
export interface ImageServiceProxy {
  readonly routes: (router: ConnectRouter) => void;
  close(): void;
}

/**
 * Serves CRI's image service (`runtime.v1`) by handing each call on, and remembers the credentials of pulls on the way. The
 * kubelet's `--image-service-endpoint` points here.
 */
export function imageServiceProxy(options: ImageServiceProxyOptions): ImageServiceProxy {
  const connection = unixTransport(options.target);
  const client = createClient(ImageService, connection.transport);
  const { keychain } = options;
  return {
    close: () => connection.close(),
    routes: (router) => {
      router.service(ImageService, {
        listImages: (request, context) => client.listImages(request, { signal: context.signal }),
        imageStatus: (request, context) => client.imageStatus(request, { signal: context.signal }),
        imageFsInfo: (request, context) => client.imageFsInfo(request, { signal: context.signal }),
        pullImage: async (request, context) => {
          // Before the pull: layers are opened with these credentials while it runs.
          const undo = keychain.remember(request.image?.image ?? "", request.auth);
          try {
            return await client.pullImage(request, { signal: context.signal });
          } catch (error) {
            undo();
            throw error;
          }
        },
        removeImage: async (request, context) => {
          const answer = await client.removeImage(request, { signal: context.signal });
          keychain.forget(request.image?.image ?? "");
          return answer;
        },
      });
    },
  };
}
