// Markdown of others, as elements and never as HTML: markup in it is shown as the text that it is.

import { lexer, type Token, type Tokens } from "marked";
import type { ComponentChildren } from "preact";

const MOST = 200_000;

export function Markdown({ text }: { text: string }) {
  return <div class="markdown">{blocks(lexer(text.slice(0, MOST)))}</div>;
}

function blocks(tokens: readonly Token[]): ComponentChildren {
  return tokens.map((token, i) => <Block key={i} token={token} />);
}

function Block({ token }: { token: Token }) {
  switch (token.type) {
    case "heading": {
      // The page has its own first and second headings.
      const Heading = `h${Math.min(6, (token as Tokens.Heading).depth + 2)}` as "h3";
      return <Heading>{inline(token.tokens)}</Heading>;
    }
    case "paragraph":
      return <p>{inline(token.tokens)}</p>;
    case "text":
      return <>{token.tokens ? inline(token.tokens) : plain(token)}</>;
    case "code":
      return <pre tabIndex={0}><code>{token.text as string}</code></pre>;
    case "blockquote":
      return <blockquote>{blocks(token.tokens ?? [])}</blockquote>;
    case "list": {
      const list = token as Tokens.List;
      const items = list.items.map((item, i) => (
        <li key={i}>
          {item.task && <input type="checkbox" checked={!!item.checked} disabled aria-label={item.checked ? "done" : "not done"} />}
          {blocks(item.tokens)}
        </li>
      ));
      return list.ordered ? <ol start={Number(list.start) || 1}>{items}</ol> : <ul>{items}</ul>;
    }
    case "table": {
      const table = token as Tokens.Table;
      return (
        <div class="scroll">
          <table class="grid">
            <thead><tr>{table.header.map((cell, i) => <th key={i}>{inline(cell.tokens)}</th>)}</tr></thead>
            <tbody>{table.rows.map((row, r) => <tr key={r}>{row.map((cell, c) => <td key={c}>{inline(cell.tokens)}</td>)}</tr>)}</tbody>
          </table>
        </div>
      );
    }
    case "hr":
      return <hr />;
    case "space":
    case "def":
      return null;
    default:
      return <p>{token.raw}</p>;
  }
}

function inline(tokens: readonly Token[] | undefined): ComponentChildren {
  return (tokens ?? []).map((token, i) => {
    switch (token.type) {
      case "strong":
        return <strong key={i}>{inline(token.tokens)}</strong>;
      case "em":
        return <em key={i}>{inline(token.tokens)}</em>;
      case "del":
        return <del key={i}>{inline(token.tokens)}</del>;
      case "codespan":
        return <code key={i}>{plain(token)}</code>;
      case "br":
        return <br key={i} />;
      case "link": {
        const address = String((token as Tokens.Link).href);
        return /^https?:\/\//i.test(address) ? (
          <a key={i} href={address} target="_blank" rel="noopener noreferrer nofollow">{inline(token.tokens)}</a>
        ) : (
          <span key={i}>{inline(token.tokens)}</span>
        );
      }
      case "image":
        return <span key={i} class="quiet">[image: {(token as Tokens.Image).text || (token as Tokens.Image).href}]</span>;
      case "text":
        return token.tokens ? inline(token.tokens) : plain(token);
      case "escape":
        return plain(token);
      default:
        return token.raw;
    }
  });
}

/** The lexer leaves entities as they were typed. */
function plain(token: Token): string {
  const text = "text" in token ? String(token.text) : token.raw;
  return text.replace(/&(amp|lt|gt|quot|#39);/g, (all, name: string) => ({ amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" })[name] ?? all);
}
