// Words for what the kernel tells by name.

/** NotResponding → not responding */
export function statusWords(status: string): string {
  return status.replace(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase();
}
