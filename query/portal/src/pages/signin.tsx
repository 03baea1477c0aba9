// Signing in with a key. The form works by itself: the server answers it with a cookie.

import { href } from "./router";

export function SignIn({ next, wrong }: { next: string; wrong: boolean }) {
  return (
    <main class="signin">
      <h1>runstream</h1>
      <form method="post" action={href("/login")}>
        <input type="hidden" name="next" value={next} />
        <label class="field">
          <span>API key or token</span>
          <input name="token" type="password" autocomplete="current-password" required autofocus aria-describedby="signin-hint" />
        </label>
        {wrong && (
          <p class="bad" role="alert">
            That key is not known to this server.
          </p>
        )}
        <button type="submit" class="primary">
          Sign in
        </button>
        <p class="quiet" id="signin-hint">
          On the machine of the server, <code>runstream token</code> prints one, and <code>runstream keys add NAME</code> makes one for
          somebody else.
        </p>
      </form>
    </main>
  );
}
