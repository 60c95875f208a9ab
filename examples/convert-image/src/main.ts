// Converts an image so that it can be read lazily: main.ts SOURCE DESTINATION
import { convertImage } from "@estargz/convert";
import { createRegistryClient, dockerConfigKeychain, openImageStore } from "@estargz/registry";

const [from, to] = process.argv.slice(2);
if (from === undefined || to === undefined) {
  console.error("usage: main.ts SOURCE DESTINATION, each registry/repository:tag, oci:FOLDER:TAG or oci-archive:FILE");
  process.exit(2);
}

await using client = createRegistryClient({ keychain: dockerConfigKeychain() });
const { descriptor, images } = await convertImage(openImageStore(from, { client }), openImageStore(to, { client }), {
  // Smaller chunks than the format's 4 MiB: a start fetches less of large files.
  chunkSizeBytes: 1024 * 1024,
  onEvent(event) {
    if (event.type === "layer") console.log(`${event.how} ${event.layer}`);
  },
});
for (const { platform, layers } of images) {
  const size = layers.reduce((sum, layer) => sum + layer.to.size, 0);
  console.log(`${platform?.os}/${platform?.architecture}: ${layers.length} layers, ${size} bytes`);
}
console.log(descriptor.digest);
