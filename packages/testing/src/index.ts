/**
 * A registry simulator with faults, a link shaper, daemons and layer factories: what the tests of estargz packages, and
 * of implementations of their seams, are made of. The contract suites, which need vitest, are in `@estargz/testing/suites`.
 *
 * @packageDocumentation
 */
export type { CommandResult, Containerd, CtrOptions, StartContainerdOptions } from "./containerd.ts";
export { runCommand, startContainerd, waitForSocket } from "./containerd.ts";
export type { DockerRegistry, DockerRegistryOptions } from "./docker-registry.ts";
export { findDockerRegistry, startDockerRegistry } from "./docker-registry.ts";
export type { FakeRegistry, FakeRegistryOptions, FakeRequest } from "./fake-registry.ts";
export { startFakeRegistry } from "./fake-registry.ts";
export type { FakeAccounts } from "./fake-registry-auth.ts";
export { testCertificate } from "./fake-registry-certificate.ts";
export type { FakeContent, FakeImage } from "./fake-registry-content.ts";
export type { FakeServer, Fault } from "./fake-registry-faults.ts";
export type { RegistryProfile, RegistryProfileName, SeveralRanges, StoreBehaviour } from "./fake-registry-profiles.ts";
export { registryProfiles } from "./fake-registry-profiles.ts";
export { contents, trees } from "./layers/arbitraries.ts";
export type { TarFlavour, TarSpec } from "./layers/tar-builder.ts";
export { buildTar, paxEntry } from "./layers/tar-builder.ts";
export type { LinkMeasurement, MeasureLinkOptions } from "./measure-link.ts";
export { measureLink } from "./measure-link.ts";
export { nodeFlags } from "./node-flags.ts";
export type { Shaper, ShaperOptions, ShaperStatistics } from "./shaper.ts";
export { startShaper } from "./shaper.ts";
