/** Whether one dotted part matches a pattern with `*`. */
function partMatches(pattern: string, part: string): boolean {
  if (!pattern.includes("*")) return pattern === part;
  const source = pattern.split("*").map((text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${source.join("[^.]*")}$`).test(part);
}

/**
 * Whether an image belongs to a pattern of Kubernetes: `registry.io`, `*.registry.io`, `registry.io:8080/path`. A `*` stands
 * for a part of a host name, never across dots; ports must be equal; the path is a prefix.
 */
export function matchesImage(pattern: string, image: string): boolean {
  const strip = (text: string): string => text.replace(/^https?:\/\//, "").replace(/\/$/, "");
  const [patternHost = "", ...patternPath] = strip(pattern).split("/");
  const [imageHost = "", ...imagePath] = strip(image).split("/");
  const [patternName = "", patternPort = ""] = patternHost.split(":");
  const [imageName = "", imagePort = ""] = imageHost.split(":");
  if (patternPort !== imagePort) return false;
  const patternParts = patternName.split(".");
  const imageParts = imageName.split(".");
  if (patternParts.length !== imageParts.length) return false;
  if (!patternParts.every((part, index) => partMatches(part, imageParts[index] ?? ""))) return false;
  const path = patternPath.join("/").replace(/^v[12](?:\/|$)/, "");
  return path === "" || imagePath.join("/").startsWith(path);
}
