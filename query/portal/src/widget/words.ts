// Words for what the kernel tells by name.

export const isOver = (status: string): boolean => ["Completed", "Failed", "Canceled"].includes(status);

/** NotResponding → not responding */
export function statusWords(status: string): string {
  return status.replace(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase();
}
