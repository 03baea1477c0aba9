// What the page shell carries: where the portal lives, and the first answers.

export interface FirstAnswer {
  /** "service/method". */
  method: string;
  /** The request and its response as base64 of their bytes. */
  request: string;
  response: string;
}

export interface Shell {
  /** Path before all addresses of the portal, without a slash at its end; empty at the root. */
  prefix: string;
  answers: FirstAnswer[];
  /** Set when nobody is signed in. */
  signIn?: { next: string; wrong: boolean };
  /** Set when the address could not be answered. */
  error?: { status: number; text: string };
  /** Set on a shared link, below whose address everything is. It only reads. */
  share?: { expiresMs: number };
}

const NONE: Shell = { prefix: "", answers: [] };

function read(): Shell {
  if (typeof document === "undefined") return NONE;
  const text = document.getElementById("shell")?.textContent;
  return text ? { ...NONE, ...(JSON.parse(text) as Partial<Shell>) } : NONE;
}

export const shell: Shell = read();
