/**
 * Contract suites: one for each seam, run by every implementation inside vitest.
 *
 * @packageDocumentation
 */
export {};
